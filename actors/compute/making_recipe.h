// The recipe of a shipped base: every number of its making (actors/compute/base_making.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

// What the steps of one stage train on, and how.
struct MakingStage {
  std::uint64_t steps = 0;
  int batch = 0;                          // lessons in a step, over all lanes
  int turns = 1;                          // questions for each lesson
  std::map<std::string, double> lessons;  // kind -> share
  OptimizerSpec optimizer = {};           // its schedule is that of the stage
};

struct MakingRecipe {
  std::string text;        // as it was read
  std::uint64_t seed = 1;  // of the lessons; no corpus shares a scene with any of them
  int lanes = 2;
  std::uint64_t save_every = 100;  // steps; what is lost when the making is killed
  std::uint64_t check_seed = 2;    // of the held-out lessons
  int check_lessons = 64;          // of each kind
  std::vector<MakingStage> stages;
};

// A recipe is JSON (model/shipped/nano/recipe.json); every field must be there and no other.
// invalid_argument names the field and what is wrong.
Result<MakingRecipe> parse_making_recipe(const std::string& text);

}  // namespace crabcast::actors
