// The table of what config.json may say: each field, its default and its limits.
//
// Defaults are those of transformers 5.23 (Qwen2_5OmniThinkerConfig and its three parts), which it
// takes where a field is missing. They are not the sizes of a published model: those files say all.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "model/config.h"

namespace crabcast::model {

// Where a field stands: in the thinker's config itself, or in one of its sections.
enum class Part { thinker, text, vision, audio };
inline constexpr const char* kSections[] = {"", "text_config", "vision_config", "audio_config"};

struct WholeField {
  Part part;
  const char* name;
  const char* other_name;  // that transformers takes too; may be null
  std::int64_t standard;   // the default
  std::int64_t low, high;
  std::int64_t& (*at)(ThinkerConfig&);
};
std::span<const WholeField> whole_fields();

// A field of which one value is implemented. That is its default, too.
struct FixedField {
  Part part;
  const char* name;
  nlohmann::json supported;
};
const std::vector<FixedField>& fixed_fields();

// Defaults of the fields that are neither.
inline constexpr double kRmsNormEps = 1e-6;
inline constexpr double kRopeTheta = 1e6;
inline constexpr std::int64_t kMropeSection[] = {16, 24, 24};
inline constexpr double kVisionRopeTheta = 10000;  // also the only value
inline constexpr std::int64_t kFullAttentionBlocks[] = {7, 15, 23, 31};
inline constexpr double kPositionsPerSecond = 25;

inline constexpr std::int64_t kMostWidth = 1 << 18;

}  // namespace crabcast::model
