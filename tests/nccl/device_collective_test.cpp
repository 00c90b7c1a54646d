// How the workers of a generation come from the ZeroMQ collective to NCCL.
#include "actors/compute/device_collective.h"

#include <gtest/gtest.h>

#include "tests/nccl/nccl_cast.h"
#include "tests/nccl/shared_memory_nccl.h"

namespace crabcast::nccl_test {
namespace {

using Made = std::vector<Result<std::unique_ptr<Collective>>>;

Made collectives_for(const std::string& device, std::uint32_t size,
                     const std::function<void(std::uint32_t rank)>& prepare) {
  cluster::Cast cast(size);
  Made made(size);
  std::vector<std::jthread> threads;
  for (std::uint32_t rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      prepare(rank);
      made[rank] = actors::collective_for(device, cast.form(rank).value(), kPatience, kPatience,
                                          [] { return false; });
    });
  threads.clear();
  return made;
}

void expect_sums(const Made& made) {
  std::vector<std::jthread> threads;
  for (const auto& collective : made)
    threads.emplace_back([&] {
      ASSERT_TRUE(collective) << collective.error().message;
      std::vector<float> one(1, 1);
      ASSERT_TRUE((*collective)->all_reduce(floats(one)));
      EXPECT_EQ(one[0], static_cast<float>(made.size()));
    });
}

int ended_by_nccl() {
  const Endings all = endings();
  return all.finalized + all.aborted;
}

// Closes them at the same time, as workers do.
void close(Made made) {
  std::vector<std::jthread> threads;
  for (auto& collective : made) threads.emplace_back([&] { collective->reset(); });
}

TEST(DeviceCollective, WorkersOnGpusMeetOverNccl) {
  const int before = ended_by_nccl();
  Made made = collectives_for("cuda:0", 3, [](std::uint32_t) {});
  expect_sums(made);
  close(std::move(made));
  EXPECT_EQ(ended_by_nccl() - before, 3);
}

TEST(DeviceCollective, NoNcclWhereItIsNotNeeded) {
  const int before = ended_by_nccl();
  expect_sums(collectives_for("cpu", 2, [](std::uint32_t) {}));
  expect_sums(collectives_for("cuda:0", 1, [](std::uint32_t) {}));
  EXPECT_EQ(ended_by_nccl(), before);
}

TEST(DeviceCollective, EverybodyHearsThatThereIsNoUniqueId) {
  const Made made = collectives_for("cuda:0", 3, [](std::uint32_t rank) {
    if (rank == 0) stage_no_unique_id();
  });
  for (const auto& collective : made) {
    ASSERT_FALSE(collective);
    EXPECT_EQ(collective.error().code, Errc::device_error);
  }
}

}  // namespace
}  // namespace crabcast::nccl_test
