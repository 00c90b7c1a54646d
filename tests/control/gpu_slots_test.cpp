// The GPUs of a node: none is given to two processes.
#include "actors/control/gpu_slots.h"

#include <gmock/gmock.h>

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(GpuSlots, NoneIsGivenToTwoProcesses) {
  GpuSlots slots({"0", "1", "GPU-5f"});
  const auto first = slots.take(1), second = slots.take(2);
  ASSERT_TRUE(first && second);
  EXPECT_THAT(*first, ElementsAre("0"));
  EXPECT_THAT(*second, ElementsAre("1", "GPU-5f"));
  const auto third = slots.take(1);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, Errc::resource_exhausted);
  EXPECT_TRUE(slots.take(0)) << "who needs none gets none";
  slots.give_back(*first);
  EXPECT_THAT(*slots.take(1), ElementsAre("0"));
}

TEST(GpuSlots, AProcessSeesItsOwnOnly) {
  EXPECT_EQ(visible_devices({"1", "GPU-5f"}), "1,GPU-5f");
  EXPECT_EQ(visible_devices({}), "") << "CUDA shows no GPU then";
}

TEST(GpuSlots, OnlyThoseThatTheAgentItselfSees) {
  ASSERT_EQ(::setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5f", 1), 0);
  EXPECT_THAT(machine_gpus(), ElementsAre("3", "GPU-5f"));
  for (const char* none : {"", "-1"}) {
    ASSERT_EQ(::setenv("CUDA_VISIBLE_DEVICES", none, 1), 0);
    EXPECT_THAT(machine_gpus(), IsEmpty());
  }
  ASSERT_EQ(::unsetenv("CUDA_VISIBLE_DEVICES"), 0);
}

}  // namespace
}  // namespace crabcast::actors
