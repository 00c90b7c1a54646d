// What the tests of the JobMachine share: a small job, and what holds when it ends.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/control/simulated_cast.h"

namespace crabcast::actors {

using std::chrono::minutes;
using std::chrono::seconds;

inline CastOptions two_workers() {
  CastOptions options;
  options.spec.name = "job";
  options.spec.train.steps = 12;
  options.spec.train.lanes = 4;
  options.spec.resources.workers_min = 1;
  options.spec.resources.workers_max = 2;
  options.spec.checkpoint.every_steps = 4;
  options.spec.evaluate.every_steps = 4;
  return options;
}

inline std::vector<std::uint64_t> steps_of(const Cast& cast) {
  std::vector<std::uint64_t> steps;
  for (const auto& record : cast.ledger) steps.push_back(record.step());
  return steps;
}

inline std::vector<std::uint64_t> one_to(std::uint64_t last) {
  std::vector<std::uint64_t> steps(last);
  std::iota(steps.begin(), steps.end(), 1);
  return steps;
}

// The job ran to its end: every step is committed once, and the result is stored.
inline void expect_succeeded(Cast& cast) {
  ASSERT_TRUE(cast.run_to_end());
  ASSERT_EQ(cast.finish->state, pb::JOB_SUCCEEDED) << cast.finish->error.message;
  EXPECT_EQ(steps_of(cast), one_to(*cast.options.spec.train.steps));
  EXPECT_EQ(cast.store.rbegin()->first, *cast.options.spec.train.steps);
  EXPECT_EQ(cast.count("job_succeeded"), 1U);
}

// H-1: one incident, which names the culprit and is measured in all its parts.
inline pb::Event only_incident(const Cast& cast, const std::string& culprit) {
  const auto incidents = cast.all("incident");
  EXPECT_EQ(incidents.size(), 1U);
  if (incidents.empty()) return {};
  const auto& detail = incidents[0].incident();
  EXPECT_EQ(detail.culprit(), culprit);
  EXPECT_EQ(incidents[0].subject(), culprit);
  EXPECT_FALSE(detail.evidence().empty());
  EXPECT_FALSE(detail.last_operation().empty());
  for (const double part :
       {detail.detect_seconds(), detail.decide_seconds(), detail.reform_seconds(),
        detail.load_seconds(), detail.redo_seconds()}) {
    EXPECT_GE(part, 0);
    EXPECT_LT(part, 200);
  }
  return incidents[0];
}

inline bool does(const Cast& cast, const std::string& role, const std::string& what) {
  return cast.doing(role).find(what) != std::string::npos;
}

inline void expect_stopped(Cast& cast, std::uint64_t at_least, std::uint64_t at_most) {
  ASSERT_TRUE(cast.run_to_end(minutes(10)));
  EXPECT_EQ(cast.finish->state, pb::JOB_STOPPED) << cast.finish->error.message;
  EXPECT_GE(cast.committed(), at_least);
  EXPECT_LE(cast.committed(), at_most);
  EXPECT_EQ(cast.store.empty() ? 0 : cast.store.rbegin()->first, cast.committed())
      << "nothing that was committed is lost";
  EXPECT_TRUE(cast.living(pb::ROLE_WORKER).empty());
}

}  // namespace crabcast::actors
