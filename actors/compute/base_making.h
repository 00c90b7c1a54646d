// Makes the shipped base nano: trains all of its parameters on lessons (data/lesson.h), from random
// weights, as a recipe says.
//
// The work is that of a job's workers, in one process: each lane of a step runs in a session of its
// own, on a thread of its own; the gradients are added in the order of the lanes, and every session
// makes the same update. So equal recipes give equal bytes, on machines whose processors compute
// alike, however often the making was stopped in between.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "actors/compute/making_recipe.h"
#include "protocol/error.h"

namespace crabcast::actors {

struct MakingProgress {
  std::uint64_t step = 0, steps = 0;
  double loss = 0;  // for each answer token, of the last step
};

struct MadeBase {
  std::string hash;
  std::map<std::string, double>
      exact;  // kind -> share of held-out answers that are right, all of it
};

// Leaves FOLDER/model.safetensors, bfloat16. While it works, FOLDER/making.safetensors holds the
// newest saved step; a making that was stopped goes on from there. already_exists: what is saved
// there is of another recipe.
Result<MadeBase> make_base(const MakingRecipe& recipe, const std::filesystem::path& folder,
                           const std::function<void(const MakingProgress&)>& progress);

}  // namespace crabcast::actors
