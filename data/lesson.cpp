#include "data/lesson.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <utility>

#include "data/lesson_scene.h"
#include "data/log_mel.h"
#include "data/patches.h"
#include "data/prompt.h"

namespace crabcast::data {
namespace {

// A fact that stands there several times is likelier to be asked for, but only once.
std::vector<Fact> shuffled(std::vector<Fact> facts, Rng& rng) {
  rng.shuffle(facts);
  std::vector<Fact> once;
  for (Fact& fact : facts)
    if (std::ranges::count(once, fact.question, &Fact::question) == 0)
      once.push_back(std::move(fact));
  return once;
}

// A question asks for one fact, or for several: then each stands behind its label, so that a fact
// is not always what an answer begins with.
std::vector<LessonTurn> ask(const std::vector<Fact>& facts, int turns, Rng& rng) {
  std::vector<LessonTurn> asked;
  std::size_t at = 0;
  for (int i = 0; i < turns && at < facts.size(); ++i) {
    const auto wanted = static_cast<std::size_t>(rng.chance(0.4) ? 1 : rng.range(2, 4));
    const std::size_t end = std::min(facts.size(), at + wanted);
    LessonTurn turn;
    for (const bool single = end - at == 1; at < end; ++at) {
      const auto& [question, label, value] = facts[at];
      turn.question += (turn.question.empty() ? "" : " ") + question;
      turn.answer += (turn.answer.empty() ? "" : "; ") + (single ? "" : label + ": ") + value;
    }
    asked.push_back(std::move(turn));
  }
  return asked;
}

void append(LessonTokens& out, const std::vector<model::TokenId>& ids, bool trained) {
  out.ids.insert(out.ids.end(), ids.begin(), ids.end());
  out.trained.insert(out.trained.end(), ids.size(), trained);
}

MediaTokens process_media(const Lesson& lesson, const model::BaseFrontEnd& front_end,
                          Processed& out) {
  const auto& media = front_end.media;
  MediaTokens counts;
  if (!lesson.frames.empty()) {
    auto patches = make_patches(lesson.frames, media);
    out.pixel_values = std::move(patches.pixel_values);
    out.grid_thw = std::move(patches.grid_thw);
    out.seconds_per_grid = at::full({1}, lesson.video ? media.seconds_per_grid : 0.0F, at::kFloat);
    (lesson.video ? counts.video : counts.image) =
        media.vision_tokens(static_cast<int>(lesson.frames.size()));
  }
  if (!lesson.sound.empty()) {
    const at::Tensor sound = at::tensor(at::ArrayRef<float>(lesson.sound));
    out.audio_features = log_mel(sound, media.mel_bins).unsqueeze(0);
    const auto length = out.audio_features.size(2);
    out.audio_lengths = at::full({1}, length, at::kLong);
    counts.audio = model::MediaShape::audio_tokens(length);
  }
  return counts;
}

}  // namespace

Lesson make_lesson(LessonKind kind, std::uint64_t seed, std::uint64_t index, int turns, int size) {
  Rng rng{seed, kLessonStream, static_cast<std::uint64_t>(kind), index};
  LessonScene scene = [&] {
    switch (kind) {
      case LessonKind::look:
        return look_scene(rng, size);
      case LessonKind::listen:
        return listen_scene(rng);
      case LessonKind::match:
        return match_scene(rng, size);
      case LessonKind::motion:
        return motion_scene(rng, size);
      case LessonKind::face:
        return face_scene(rng, size);
      case LessonKind::events:
        return events_scene(rng, size);
      case LessonKind::watch:
        break;
    }
    return watch_scene(rng, size);
  }();
  return {.frames = std::move(scene.frames),
          .video = scene.video,
          .sound = std::move(scene.sound),
          .turns = ask(shuffled(std::move(scene.facts), rng), turns, rng)};
}

LessonTokens process_lesson(const Lesson& lesson, const model::BaseFrontEnd& front_end) {
  const model::Tokenizer& tokenizer = *front_end.tokenizer;
  LessonTokens out;
  const MediaTokens counts = process_media(lesson, front_end, out.media);
  for (std::size_t i = 0; i < lesson.turns.size(); ++i) {
    const auto& [question, answer] = lesson.turns[i];
    append(
        out,
        i == 0 ? prompt_tokens(tokenizer, question, counts) : next_turn_tokens(tokenizer, question),
        false);
    append(out, answer_tokens(tokenizer, answer), true);
  }
  return out;
}

LessonTokens lesson_prompt(const Lesson& lesson, const model::BaseFrontEnd& front_end) {
  LessonTokens out;
  const MediaTokens counts = process_media(lesson, front_end, out.media);
  append(out, prompt_tokens(*front_end.tokenizer, lesson.turns.front().question, counts), false);
  append(out, answer_start(*front_end.tokenizer), false);
  return out;
}

Batch make_lesson_batch(const std::vector<LessonTokens>& lessons,
                        const model::BaseFrontEnd& front_end) {
  std::vector<Processed> media;
  std::size_t longest = 0;
  for (const LessonTokens& lesson : lessons) {
    media.push_back(lesson.media);
    longest = std::max(longest, lesson.ids.size());
  }
  Batch batch = make_batch(media, front_end, BatchUse::generate);  // for its media
  const auto rows = static_cast<std::int64_t>(lessons.size());
  const auto columns = static_cast<std::int64_t>(longest);
  batch.input_ids = at::full({rows, columns}, front_end.tokenizer->special().pad, at::kLong);
  batch.attention_mask = at::full({rows, columns}, false, at::kBool);
  batch.labels = at::full({rows, columns}, -100, at::kLong);
  for (std::int64_t row = 0; row < rows; ++row) {
    const LessonTokens& lesson = lessons[static_cast<std::size_t>(row)];
    auto* ids = batch.input_ids.mutable_data_ptr<std::int64_t>() + row * columns;
    auto* label = batch.labels.mutable_data_ptr<std::int64_t>() + row * columns;
    auto* mask = batch.attention_mask.mutable_data_ptr<bool>() + row * columns;
    std::copy(lesson.ids.begin(), lesson.ids.end(), ids);
    std::fill_n(mask, lesson.ids.size(), true);
    for (std::size_t i = 0; i < lesson.ids.size(); ++i)
      if (lesson.trained[i]) label[i] = lesson.ids[i];
  }
  return batch;
}

}  // namespace crabcast::data
