#include "protocol/fault_points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "protocol/clock.h"
#include "tests/support/temporary_folder.h"

namespace crabcast {
namespace {

using ::testing::HasSubstr;

// Arms this process as a role, and disarms it at the end.
class FaultPoints : public ::testing::Test {
 protected:
  void arm(const std::string& role, const std::string& orders) {
    ::setenv("CRABCAST_FAULTS", orders.c_str(), 1);
    ::setenv("CRABCAST_FAULTS_DIR", folder_.path().c_str(), 1);
    const auto armed = arm_faults(role);
    ASSERT_TRUE(armed) << armed.error().message;
  }
  void TearDown() override {
    ::setenv("CRABCAST_FAULTS", "nobody@step.apply=kill", 1);
    ASSERT_TRUE(arm_faults("me"));
    ::unsetenv("CRABCAST_FAULTS");
    ::unsetenv("CRABCAST_FAULTS_DIR");
    ASSERT_FALSE(faults::armed);
  }
  testing::TemporaryFolder folder_;
};

TEST_F(FaultPoints, NothingHappensWithoutOrders) {
  EXPECT_TRUE(fault_point("step.report"));
}

TEST_F(FaultPoints, TheNthPassFailsOnce) {
  arm("worker-0", "worker-0@step.report#2=error:disk_full;worker-1@step.apply=kill");
  EXPECT_TRUE(fault_point("step.report"));
  const auto struck = fault_point("step.report");
  ASSERT_FALSE(struck);
  EXPECT_EQ(struck.error().code, Errc::disk_full);
  EXPECT_TRUE(fault_point("step.report"));
  EXPECT_TRUE(fault_point("step.apply")) << "it is another role's";
}

TEST_F(FaultPoints, OnceInARunAlsoForTheNextProcess) {
  arm("worker-0", "*@step.report=error:timeout");
  EXPECT_FALSE(fault_point("step.report"));
  ASSERT_TRUE(arm_faults("worker-0"));  // as the process that takes its place does
  EXPECT_TRUE(fault_point("step.report"));
}

TEST_F(FaultPoints, APlusStrikesFromThenOn) {
  arm("loader-0", "loader-0@batch.make#2+=error:io_error");
  EXPECT_TRUE(fault_point("batch.make"));
  EXPECT_FALSE(fault_point("batch.make"));
  EXPECT_FALSE(fault_point("batch.make"));
}

TEST_F(FaultPoints, WallTimeJumps) {
  const auto before = unix_ms_now();
  arm("me", "me@clock.wall#2=jump:-3600");
  EXPECT_GE(unix_ms_now(), before);
  EXPECT_LT(unix_ms_now(), before - 3'000'000);
  ::setenv("CRABCAST_FAULTS", "me@clock.wall=jump:3600", 1);
  std::filesystem::remove_all(folder_.path() / "0");
  ASSERT_TRUE(arm_faults("me"));
  EXPECT_GE(unix_ms_now(), before);  // back, for the tests after this one
}

TEST_F(FaultPoints, KillEndsTheProcess) {
  EXPECT_EXIT(
      {
        arm("me", "me@step.apply=kill");
        (void)fault_point("step.apply");
      },
      ::testing::KilledBySignal(SIGKILL), "");
}

TEST_F(FaultPoints, OrdersReadBack) {
  const std::string text =
      "worker-0@step.report#3=kill;*@disk.sync#1+=error:io_error;agent@role.start#2=delay:1500;"
      "coordinator@clock.wall#1=jump:-7200;loader-0@batch.make#1=stop";
  const auto orders = parse_fault_orders(text);
  ASSERT_TRUE(orders) << orders.error().message;
  std::string back;
  for (const auto& order : *orders) back += (back.empty() ? "" : ";") + to_string(order);
  EXPECT_EQ(back, text);
}

TEST_F(FaultPoints, WrongOrdersAreRefused) {
  for (const auto& [text, why] : std::vector<std::pair<std::string, std::string>>{
           {"step.report=kill", "no '@'"},
           {"a@step.repot=kill", "no point is named 'step.repot'"},
           {"a@step.report=explode", "no action is named 'explode'"},
           {"a@step.report#0=kill", "no count"},
           {"a@step.report#x=kill", "no count"},
           {"a@step.report=error:what", "no error is named 'what'"},
           {"a@step.report=delay:long", "no number"},
           {"a@step.report=delay:-5", "no number"},
           {"a@step.report=kill:9", "takes nothing"},
           {"a@step.report#2+=kill", "only errors and delays repeat"}}) {
    const auto orders = parse_fault_orders(text);
    ASSERT_FALSE(orders) << text;
    EXPECT_EQ(orders.error().code, Errc::invalid_argument);
    EXPECT_THAT(orders.error().message, HasSubstr(why));
  }
}

}  // namespace
}  // namespace crabcast
