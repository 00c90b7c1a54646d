#include "actors/control/own_standstill.h"

#include <gtest/gtest.h>

namespace crabcast::actors {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class OwnStandstillTest : public testing::Test {
 protected:
  OwnStandstillTest() { pulse_.tick(now_); }
  void ticks(Duration time) {
    for (const auto end = now_ + time; now_ < end; pulse_.tick(now_)) now_ += milliseconds(100);
  }
  TimePoint now_{std::chrono::hours(1)};
  OwnStandstill pulse_;
};

TEST_F(OwnStandstillTest, WhoTicksNeverStoodStill) {
  ticks(seconds(60));
  EXPECT_FALSE(pulse_.is_heard_of(now_));
}

TEST_F(OwnStandstillTest, AShortOneIsNoReasonToGiveItUp) {
  now_ += seconds(4);
  EXPECT_FALSE(pulse_.is_heard_of(now_));
  EXPECT_EQ(pulse_.tick(now_), seconds(4));
  EXPECT_FALSE(pulse_.is_heard_of(now_));
}

TEST_F(OwnStandstillTest, WhatIsHeardRightAfterALongOneIsItsFault) {
  now_ += seconds(8);
  EXPECT_TRUE(pulse_.is_heard_of(now_)) << "also before the tick";
  EXPECT_EQ(pulse_.length(), seconds(8));
  EXPECT_EQ(pulse_.tick(now_), seconds(8));
  ticks(seconds(1));
  EXPECT_TRUE(pulse_.is_heard_of(now_));
  ticks(seconds(2));
  EXPECT_FALSE(pulse_.is_heard_of(now_));
}

}  // namespace
}  // namespace crabcast::actors
