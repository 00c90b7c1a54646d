// Recipes of shipped bases: every field must be there, and no other.
#include "actors/compute/making_recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

namespace crabcast::actors {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json recipe() {
  return {{"seed", 5},
          {"lanes", 2},
          {"save_every", 10},
          {"check_seed", 6},
          {"check_lessons", 8},
          {"stages",
           {{{"steps", 4},
             {"batch", 6},
             {"turns", 1},
             {"lessons", {{"look", 0.5}, {"listen", 1}}},
             {"optimizer",
              {{"lr", 0.002},
               {"weight_decay", 0.01},
               {"schedule", "constant"},
               {"warmup", 0.5},
               {"clip_norm", 1},
               {"beta1", 0.9},
               {"beta2", 0.98},
               {"epsilon", 1e-8}}}}}}};
}

std::string problem(const std::function<void(json&)>& change) {
  json changed = recipe();
  change(changed);
  const auto parsed = parse_making_recipe(changed.dump());
  if (parsed) return "";
  EXPECT_EQ(parsed.error().code, Errc::invalid_argument);
  return parsed.error().message;
}

TEST(MakingRecipe, IsRead) {
  const auto parsed = parse_making_recipe(recipe().dump());
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->seed, 5U);
  EXPECT_EQ(parsed->lanes, 2);
  ASSERT_EQ(parsed->stages.size(), 1U);
  const MakingStage& stage = parsed->stages[0];
  EXPECT_EQ(stage.steps, 4U);
  EXPECT_EQ(stage.lessons.at("look"), 0.5);
  EXPECT_EQ(stage.optimizer.lr, 0.002);
  EXPECT_EQ(stage.optimizer.schedule, LearningRateSchedule::constant);
  EXPECT_EQ(parsed->text, recipe().dump());
}

TEST(MakingRecipe, SaysWhatIsWrong) {
  EXPECT_THAT(problem([](json& r) { r.erase("lanes"); }), HasSubstr("lanes is missing"));
  EXPECT_THAT(problem([](json& r) { r["lane"] = 2; }), HasSubstr("no field lane"));
  EXPECT_THAT(problem([](json& r) { r["seed"] = -1; }), HasSubstr("seed must be a whole number"));
  EXPECT_THAT(problem([](json& r) { r["check_seed"] = 5; }), HasSubstr("must not be seed"));
  EXPECT_THAT(problem([](json& r) { r["stages"] = json::array(); }), HasSubstr("stages"));
  const auto stage = [](const std::function<void(json&)>& change) {
    return problem([&](json& r) { change(r["stages"][0]); });
  };
  EXPECT_THAT(stage([](json& s) { s["batch"] = 1; }), HasSubstr("batch must be"));
  EXPECT_THAT(stage([](json& s) { s["lessons"] = {{"stare", 1}}; }), HasSubstr("no lessons stare"));
  EXPECT_THAT(stage([](json& s) { s["lessons"] = {{"look", 0}}; }), HasSubstr("all 0"));
  EXPECT_THAT(stage([](json& s) { s["optimizer"]["lr"] = "fast"; }),
              HasSubstr("stage 1, optimizer: lr must be a number"));
  EXPECT_THAT(stage([](json& s) { s["optimizer"]["schedule"] = "linear"; }),
              HasSubstr("constant or cosine"));
  EXPECT_THAT(parse_making_recipe("[1, 2").error().message, HasSubstr("no JSON"));
  EXPECT_FALSE(parse_making_recipe("[]"));
}

}  // namespace
}  // namespace crabcast::actors
