#include "actors/compute/making_recipe.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "data/lesson.h"
#include "protocol/format.h"

namespace crabcast::actors {
namespace {

using nlohmann::json;

// Takes the fields of one object; keeps the first problem, so that an object is read without a
// check after each field.
class Fields {
 public:
  Fields(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) problem("is not an object");
  }

  double number(const char* name, double low, double high) {
    const json* value = find(name);
    if (value == nullptr) return low;
    const double number = value->is_number() ? value->get<double>() : low - 1;
    if (!(number >= low && number <= high))
      problem(std::string(name) + " must be a number from " + exact_number(low) + " to " +
              exact_number(high));
    return number;
  }
  std::uint64_t whole(const char* name, std::uint64_t low, std::uint64_t high) {
    const json* value = find(name);
    if (value == nullptr) return low;
    if (value->is_number_unsigned())
      if (const auto number = value->get<std::uint64_t>(); low <= number && number <= high)
        return number;
    problem(std::string(name) + " must be a whole number from " + std::to_string(low) + " to " +
            std::to_string(high));
    return low;
  }
  std::string text(const char* name) {
    const json* value = find(name);
    if (value != nullptr && value->is_string()) return value->get<std::string>();
    problem(std::string(name) + " must be a text");
    return {};
  }
  const json& part(const char* name) {
    static const json nothing;
    const json* value = find(name);
    return value == nullptr ? nothing : *value;
  }
  void problem(const std::string& what) {
    if (problem_.empty()) problem_ = where_ + ": " + what;
  }
  Status finish() {
    if (problem_.empty())
      for (const auto& [name, value] : object_.items())
        if (!taken_.contains(name)) problem("there is no field " + excerpt(name));
    return problem_.empty() ? Status() : fail(Errc::invalid_argument, problem_);
  }

 private:
  const json* find(const char* name) {
    taken_.insert(name);
    const auto found = object_.find(name);
    if (found != object_.end()) return &*found;
    problem(std::string("the field ") + name + " is missing");
    return nullptr;
  }

  const json& object_;
  std::string where_, problem_;
  std::set<std::string> taken_;
};

Result<OptimizerSpec> read_optimizer(const json& object, const std::string& where) {
  Fields fields(object, where + ", optimizer");
  OptimizerSpec spec;
  spec.lr = fields.number("lr", 0, 1);
  spec.weight_decay = fields.number("weight_decay", 0, 1);
  const std::string schedule = fields.text("schedule");
  if (schedule != "constant" && schedule != "cosine")
    fields.problem("schedule must be constant or cosine");
  spec.schedule =
      schedule == "constant" ? LearningRateSchedule::constant : LearningRateSchedule::cosine;
  spec.warmup = fields.number("warmup", 0, 1);
  spec.clip_norm = fields.number("clip_norm", 0, 1e6);
  spec.beta1 = fields.number("beta1", 0, 0.9999);
  spec.beta2 = fields.number("beta2", 0, 0.9999);
  spec.epsilon = fields.number("epsilon", 0, 1);
  CRABCAST_TRY(fields.finish());
  return spec;
}

Result<std::map<std::string, double>> read_lessons(const json& object, const std::string& where) {
  if (!object.is_object()) return fail(Errc::invalid_argument, where + ": lessons is no object");
  std::map<std::string, double> lessons;
  double sum = 0;
  for (const auto& [kind, share] : object.items()) {
    if (std::ranges::count(data::kLessonNames, kind) == 0)
      return fail(Errc::invalid_argument, where + ": there are no lessons " + excerpt(kind));
    if (!share.is_number() || share.get<double>() < 0)
      return fail(Errc::invalid_argument, where + ": the share of " + kind + " is no share");
    sum += lessons[kind] = share.get<double>();
  }
  if (sum <= 0) return fail(Errc::invalid_argument, where + ": the shares of lessons are all 0");
  return lessons;
}

Result<MakingStage> read_stage(const json& object, std::size_t number, int lanes) {
  const std::string where = "stage " + std::to_string(number);
  Fields fields(object, where);
  MakingStage stage;
  stage.steps = fields.whole("steps", 1, 100'000'000);
  stage.batch = static_cast<int>(fields.whole("batch", static_cast<std::uint64_t>(lanes), 4096));
  stage.turns = static_cast<int>(fields.whole("turns", 1, 16));
  auto lessons = read_lessons(fields.part("lessons"), where);
  CRABCAST_TRY(lessons);
  stage.lessons = std::move(*lessons);
  auto optimizer = read_optimizer(fields.part("optimizer"), where);
  CRABCAST_TRY(optimizer);
  stage.optimizer = *optimizer;
  CRABCAST_TRY(fields.finish());
  return stage;
}

}  // namespace

Result<MakingRecipe> parse_making_recipe(const std::string& text) {
  const json object = json::parse(text, nullptr, false);
  if (object.is_discarded()) return fail(Errc::invalid_argument, "the recipe is no JSON");
  Fields fields(object, "recipe");
  MakingRecipe recipe;
  recipe.text = text;
  recipe.seed = fields.whole("seed", 1, UINT64_MAX);
  recipe.lanes = static_cast<int>(fields.whole("lanes", 1, 64));
  recipe.save_every = fields.whole("save_every", 1, 1'000'000);
  recipe.check_seed = fields.whole("check_seed", 1, UINT64_MAX);
  recipe.check_lessons = static_cast<int>(fields.whole("check_lessons", 1, 100'000));
  if (recipe.check_seed == recipe.seed) fields.problem("check_seed must not be seed");
  const json& stages = fields.part("stages");
  if (!stages.is_array() || stages.empty()) fields.problem("stages must be a list");
  CRABCAST_TRY(fields.finish());
  for (const json& stage : stages) {
    auto read = read_stage(stage, recipe.stages.size() + 1, recipe.lanes);
    CRABCAST_TRY(read);
    recipe.stages.push_back(std::move(*read));
  }
  return recipe;
}

}  // namespace crabcast::actors
