#include "actors/compute/base_making.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <future>
#include <optional>
#include <utility>

#include "data/lesson.h"
#include "data/synth_random.h"
#include "model/base.h"
#include "model/safetensors.h"
#include "model/session.h"
#include "model/weights.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSaved = "making.safetensors";
constexpr const char* kMade = "model.safetensors";
constexpr const char* kParameter = "adapter/";  // how a session calls its parameters
constexpr std::uint64_t kBatchStream = 0xBA7C4;
// Lessons of one step have numbers of their own.
constexpr std::uint64_t kLessonsInStep = 1000;

using Sessions = std::vector<std::unique_ptr<model::Session>>;
using State = std::vector<model::NamedTensor>;

model::ModelInput to_input(const data::Batch& batch) {
  return {batch.input_ids, batch.attention_mask,   batch.labels,         batch.pixel_values,
          batch.grid_thw,  batch.seconds_per_grid, batch.audio_features, batch.audio_lengths};
}

// The kinds of a step's lessons: at even strides through the shares, so that every step has its
// part of each.
std::vector<data::LessonKind> draw_kinds(const MakingStage& stage, std::uint64_t seed,
                                         std::uint64_t step) {
  data::Rng rng{seed, kBatchStream, step};
  double total = 0;
  for (const auto& [kind, share] : stage.lessons) total += share;
  std::vector<data::LessonKind> kinds;
  for (int i = 0; i < stage.batch; ++i) {
    double place = (i + rng.unit()) / stage.batch * total;
    std::size_t kind = 0;
    for (; kind + 1 < std::size(data::kLessonNames); ++kind) {
      const auto share = stage.lessons.find(std::string(data::kLessonNames[kind]));
      if (share == stage.lessons.end()) continue;
      if (place < share->second) break;
      place -= share->second;
    }
    kinds.push_back(static_cast<data::LessonKind>(kind));
  }
  std::ranges::sort(kinds);
  return kinds;
}

// One batch for each lane.
std::vector<data::Batch> make_batches(const MakingRecipe& recipe, const MakingStage& stage,
                                      std::uint64_t step, const model::BaseFrontEnd& front_end) {
  at::set_num_threads(1);
  const auto kinds = draw_kinds(stage, recipe.seed, step);
  std::vector<data::Batch> batches;
  for (int lane = 0; lane < recipe.lanes; ++lane) {
    std::vector<data::LessonTokens> lessons;
    for (auto i = static_cast<std::size_t>(lane); i < kinds.size();
         i += static_cast<std::size_t>(recipe.lanes))
      lessons.push_back(
          data::process_lesson(data::make_lesson(kinds[i], recipe.seed, step * kLessonsInStep + i,
                                                 stage.turns, front_end.media.image_size),
                               front_end));
    batches.push_back(data::make_lesson_batch(lessons, front_end));
  }
  return batches;
}

// Returns the loss for each answer token.
Result<double> train_step(Sessions& sessions, const std::vector<data::Batch>& batches,
                          std::uint64_t step, std::uint64_t step_of_stage) {
  const auto run = [&](std::size_t lane) {
    return sessions[lane]->lane_gradient(to_input(batches[lane]), step,
                                         static_cast<std::uint32_t>(lane));
  };
  std::vector<std::future<Result<model::LaneResult>>> others;
  for (std::size_t lane = 1; lane < sessions.size(); ++lane)
    others.push_back(std::async(std::launch::async, run, lane));
  auto sum = run(0);
  double loss = 0, tokens = 0;
  const auto count = [&](const model::LaneResult& lane) {
    for (const auto& sample : lane.samples) {
      loss += sample.loss_sum;
      tokens += static_cast<double>(sample.tokens);
    }
  };
  if (sum) count(*sum);
  for (auto& other : others) {
    auto lane = other.get();
    if (!sum) continue;
    if (!lane) {
      sum = std::move(lane);
      continue;
    }
    count(*lane);
    sum->gradient.add_(lane->gradient);
    for (std::size_t i = 0; i < sum->touched.size(); ++i)
      sum->touched[i] = sum->touched[i] || lane->touched[i];
  }
  CRABCAST_TRY(sum);
  for (auto& session : sessions)
    session->apply_update(sum->gradient, tokens, sum->touched, step_of_stage);
  return loss / tokens;
}

Result<Sessions> open_sessions(const MakingRecipe& recipe, const MakingStage& stage,
                               const State& state) {
  model::SessionOptions options;
  options.model.base = "nano";
  options.model.adapter.kind = AdapterKind::full;
  options.optimizer = stage.optimizer;
  options.seed = recipe.seed;
  options.steps = stage.steps;
  Sessions sessions;
  for (int lane = 0; lane < recipe.lanes; ++lane) {
    auto session = model::Session::open(options);
    if (!session) return fail(session.error());
    if (!state.empty()) CRABCAST_TRY((*session)->load_state(state, false));
    sessions.push_back(std::move(*session));
  }
  return sessions;
}

// A session's state with the weights that the making begins with.
Result<State> initial_state(const MakingRecipe& recipe) {
  auto sessions = open_sessions(recipe, recipe.stages.front(), {});
  if (!sessions) return fail(sessions.error());
  State state = sessions->front()->state();
  const model::WeightMap weights = model::random_nano_weights();
  for (auto& [name, tensor] : state)
    if (name.starts_with(kParameter))
      tensor = weights.at(name.substr(std::string_view(kParameter).size()));
  return state;
}

struct Saved {
  std::uint64_t step = 0;
  State state = {};
};

Result<std::optional<Saved>> load_saved(const MakingRecipe& recipe, const fs::path& folder) {
  std::error_code ignored;
  if (!fs::exists(folder / kSaved, ignored)) return std::nullopt;
  auto file = model::SafetensorsFile::open(folder / kSaved);
  CRABCAST_TRY(file);
  const auto& notes = (*file)->metadata();
  const auto recipe_note = notes.find("recipe"), step = notes.find("step");
  if (recipe_note == notes.end() || step == notes.end() || recipe_note->second != recipe.text)
    return fail(Errc::already_exists,
                (folder / kSaved).string() +
                    " is the unfinished work of another recipe; remove it or take another folder");
  Saved saved{.step = std::stoull(step->second)};
  for (const auto& entry : (*file)->entries())
    saved.state.push_back({entry.name, (*file)->tensor(entry).clone()});
  return saved;
}

Status save(const MakingRecipe& recipe, const fs::path& folder, std::uint64_t step,
            const model::Session& session) {
  return model::write_safetensors(folder / kSaved, session.state(),
                                  {{"recipe", recipe.text}, {"step", std::to_string(step)}});
}

Result<std::map<std::string, double>> check(const MakingRecipe& recipe, model::Session& session) {
  constexpr std::uint64_t kTogether = 16;
  constexpr int kLongestAnswer = 256;
  const auto& front_end = session.front_end();
  std::map<std::string, double> exact;
  for (std::size_t kind = 0; kind < std::size(data::kLessonNames); ++kind) {
    int right = 0;
    const auto all = static_cast<std::uint64_t>(recipe.check_lessons);
    for (std::uint64_t first = 0; first < all; first += kTogether) {
      std::vector<data::LessonTokens> prompts;
      std::vector<std::string> wanted;
      for (std::uint64_t i = first; i < std::min(all, first + kTogether); ++i) {
        const auto lesson = data::make_lesson(static_cast<data::LessonKind>(kind),
                                              recipe.check_seed, i, 1, front_end.media.image_size);
        wanted.push_back(lesson.turns.front().answer);
        prompts.push_back(data::lesson_prompt(lesson, front_end));
      }
      auto answers = session.generate(to_input(data::make_lesson_batch(prompts, front_end)),
                                      {.max_new_tokens = kLongestAnswer});
      CRABCAST_TRY(answers);
      for (std::size_t i = 0; i < wanted.size(); ++i)
        right += front_end.tokenizer->decode((*answers)[i].ids) == wanted[i] ? 1 : 0;
    }
    exact[std::string(data::kLessonNames[kind])] = double(right) / recipe.check_lessons;
  }
  return exact;
}

// In the order and type in which a base is published.
Result<std::string> write_base(const State& state, const fs::path& file) {
  const model::ThinkerConfig config = model::nano();
  model::WeightMap weights;
  for (const auto& [name, tensor] : state)
    if (name.starts_with(kParameter))
      weights[name.substr(std::string_view(kParameter).size())] = tensor.to(at::kBFloat16);
  State published;
  for (const auto& shape : model::weight_shapes(config))
    published.push_back({shape.name, weights.at(shape.name)});
  CRABCAST_TRY(model::write_safetensors(file, published, {{"format", "pt"}}));
  return model::hash_base(config, weights);
}

}  // namespace

Result<MadeBase> make_base(const MakingRecipe& recipe, const fs::path& folder,
                           const std::function<void(const MakingProgress&)>& progress) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(error_from_errno(error.value(), "making the folder " + folder.string()));
  auto saved = load_saved(recipe, folder);
  CRABCAST_TRY(saved);
  MakingProgress now;
  for (const MakingStage& stage : recipe.stages) now.steps += stage.steps;
  State state;
  if (*saved) {
    now.step = (*saved)->step;
    state = std::move((*saved)->state);
  } else {
    auto initial = initial_state(recipe);
    CRABCAST_TRY(initial);
    state = std::move(*initial);
  }

  Sessions sessions;
  std::uint64_t before = 0;  // steps of the stages before
  for (const MakingStage& stage : recipe.stages) {
    const std::uint64_t end = before + stage.steps;
    if (now.step >= end && &stage != &recipe.stages.back()) {
      before = end;
      continue;
    }
    auto opened = open_sessions(recipe, stage, state);
    if (!opened) return fail(opened.error());
    sessions = std::move(*opened);
    const auto batches_of = [&](std::uint64_t step) {
      return std::async(std::launch::async, [&, step] {
        return make_batches(recipe, stage, step, sessions.front()->front_end());
      });
    };
    std::future<std::vector<data::Batch>> next;
    if (now.step < end) next = batches_of(now.step + 1);
    while (now.step < end) {
      const auto batches = next.get();
      if (now.step + 1 < end) next = batches_of(now.step + 2);
      auto loss = train_step(sessions, batches, now.step + 1, now.step + 1 - before);
      CRABCAST_TRY(loss);
      now.loss = *loss;
      ++now.step;
      if (now.step % recipe.save_every == 0 || now.step == end)
        CRABCAST_TRY(save(recipe, folder, now.step, *sessions.front()));
      if (progress) progress(now);
    }
    state = sessions.front()->state();
    before = end;
  }

  // Scored as it will be used: rounded.
  for (auto& [name, tensor] : state)
    if (name.starts_with(kParameter)) tensor = tensor.to(at::kBFloat16).to(at::kFloat);
  CRABCAST_TRY(sessions.front()->load_state(state, false));
  auto exact = check(recipe, *sessions.front());
  CRABCAST_TRY(exact);
  auto hash = write_base(state, folder / kMade);
  CRABCAST_TRY(hash);
  fs::remove(folder / kSaved, error);
  if (error) return fail(error_from_errno(error.value(), "removing " + (folder / kSaved).string()));
  return MadeBase{std::move(*hash), std::move(*exact)};
}

}  // namespace crabcast::actors
