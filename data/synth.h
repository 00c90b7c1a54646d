// The synthetic corpus: small scenes rendered to real media files in AV-UIE v2 layout.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::data {

struct SynthProgress {
  std::uint64_t done = 0, total = 0;
};

// Renders the corpus into `folder` with `threads` threads. Same options, same bytes of labels; media
// files agree with their labels. Written to FOLDER.partial and renamed when complete, so a folder
// that is there is whole. already_exists when `folder` holds something else.
Status synthesize(const SyntheticCorpus& options, const std::filesystem::path& folder, int threads,
                  const std::function<void(SynthProgress)>& progress);

// The corpus in `parent`, rendered first when it is missing; safe when several processes ask at once
// (a lock file; the others wait, at most `wait`). Returns its folder.
Result<std::filesystem::path> ensure_synthetic(const SyntheticCorpus& options,
                                               const std::filesystem::path& parent, int threads,
                                               const std::function<void(SynthProgress)>& progress);

}  // namespace crabcast::data
