#include "cluster/failure_detector.h"

#include <gtest/gtest.h>

namespace crabcast::cluster {
namespace {

using std::chrono::milliseconds;
using Verdict = FailureDetector::Verdict;

// Time starts at an arbitrary point and moves only when a test moves it.
const TimePoint kStart = TimePoint(std::chrono::hours(1));
TimePoint at(int ms) {
  return kStart + milliseconds(ms);
}

FailureDetector detector() {
  return FailureDetector({milliseconds(500), milliseconds(5000), milliseconds(400)}, kStart);
}

TEST(FailureDetector, SilenceIsCountedFromTheLastSignOfLife) {
  auto d = detector();
  EXPECT_EQ(d.verdict(at(4999)), Verdict::alive);
  EXPECT_EQ(d.verdict(at(5000)), Verdict::silent);
  d.heard(at(4000));
  EXPECT_EQ(d.verdict(at(8999)), Verdict::alive);
  EXPECT_EQ(d.verdict(at(9000)), Verdict::silent);
  EXPECT_EQ(d.silence(at(9000)), milliseconds(5000));
}

TEST(FailureDetector, OnlyAnIdleLinkNeedsHeartbeats) {
  auto d = detector();
  EXPECT_FALSE(d.heartbeat_due(at(499)));
  EXPECT_TRUE(d.heartbeat_due(at(500)));
  d.sent(at(300));
  EXPECT_FALSE(d.heartbeat_due(at(799)));
  EXPECT_TRUE(d.heartbeat_due(at(800)));
  d.connection_broke(at(700));
  EXPECT_FALSE(d.heartbeat_due(at(800))) << "there is no connection to send on";
}

TEST(FailureDetector, BrokenConnectionMayComeBackWithinTheGrace) {
  auto d = detector();
  d.connection_broke(at(1000));
  EXPECT_EQ(d.verdict(at(1399)), Verdict::alive);
  d.connection_back(at(1399));
  EXPECT_EQ(d.verdict(at(2000)), Verdict::alive);
  d.connection_broke(at(2000));
  d.connection_broke(at(2300));  // still the same outage
  EXPECT_EQ(d.verdict(at(2399)), Verdict::alive);
  EXPECT_EQ(d.verdict(at(2400)), Verdict::lost);
}

TEST(FailureDetector, OwnStandstillIsForgiven) {
  auto d = detector();
  d.heard(at(100));
  d.forgive(milliseconds(60000));
  EXPECT_EQ(d.verdict(at(61000)), Verdict::alive);
  EXPECT_EQ(d.verdict(at(65100)), Verdict::silent);
  d.heard(at(65100));
  d.connection_broke(at(65200));
  d.forgive(milliseconds(1000));
  EXPECT_EQ(d.verdict(at(66599)), Verdict::alive);
  EXPECT_EQ(d.verdict(at(66600)), Verdict::lost);
}

TEST(FailureDetector, NextDeadlineIsWhenTheVerdictOrAHeartbeatIsDue) {
  auto d = detector();
  EXPECT_EQ(d.next_deadline(), at(500));
  d.sent(at(450));
  EXPECT_EQ(d.next_deadline(), at(950));
  d.connection_broke(at(460));
  EXPECT_EQ(d.next_deadline(), at(860));
  d.connection_back(at(500));
  d.sent(at(5400));
  EXPECT_EQ(d.next_deadline(), at(5500)) << "silence comes before the next heartbeat";
}

}  // namespace
}  // namespace crabcast::cluster
