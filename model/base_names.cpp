#include "model/base_names.h"

namespace crabcast::model {
namespace {

struct Renaming {
  std::string_view in_file, published;
};

// The first that fits counts.
constexpr Renaming kRenamings[] = {
    // The whole model in memory, transformers 5: its names as state_dict() gives them.
    {"thinker.model.language_model.", "thinker.model."},
    {"thinker.model.audio_tower.", "thinker.audio_tower."},
    {"thinker.model.visual.", "thinker.visual."},
    // As published, and as save_pretrained of the whole model writes them.
    {"thinker.model.", "thinker.model."},
    {"thinker.audio_tower.", "thinker.audio_tower."},
    {"thinker.visual.", "thinker.visual."},
    {"thinker.lm_head.", "thinker.lm_head."},
    // The thinker alone in memory.
    {"model.language_model.", "thinker.model."},
    {"model.audio_tower.", "thinker.audio_tower."},
    {"model.visual.", "thinker.visual."},
    // As save_pretrained of the thinker alone writes them.
    {"model.", "thinker.model."},
    {"audio_tower.", "thinker.audio_tower."},
    {"visual.", "thinker.visual."},
    {"lm_head.", "thinker.lm_head."},
};

constexpr std::string_view kOtherParts[] = {"talker.", "token2wav."};

}  // namespace

std::optional<std::string> published_name(std::string_view name) {
  for (const Renaming& renaming : kRenamings)
    if (name.starts_with(renaming.in_file))
      return std::string(renaming.published).append(name.substr(renaming.in_file.size()));
  return std::nullopt;
}

std::string in_memory_name(std::string_view published) {
  constexpr Renaming kBack[] = {
      {"model.language_model.", "thinker.model."},
      {"model.audio_tower.", "thinker.audio_tower."},
      {"model.visual.", "thinker.visual."},
      {"lm_head.", "thinker.lm_head."},
  };
  for (const auto& [in_memory, name] : kBack)
    if (published.starts_with(name))
      return std::string(in_memory).append(published.substr(name.size()));
  return std::string(published);
}

bool is_of_another_part(std::string_view name) {
  for (const std::string_view prefix : kOtherParts)
    if (name.starts_with(prefix)) return true;
  return false;
}

}  // namespace crabcast::model
