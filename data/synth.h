// The synthetic corpus: small scenes rendered to real media files in AV-UIE v2 layout.
//
// All data sets, those of av_matching where they are asked for, field by field as in
// docs/corpus.md. A data set gets n =
// samples_per_dataset train rows and t = max(4, n / 4) test rows; train and test scenes come from
// different random streams. unav, mer24 and avcap have no test.json: their t rows of the test
// stream stand at the end of train.json, where the reader keeps the last rows for evaluation
// (held_out_rows).
//
// Each sample is a function of (difficulty, seed, data set, split, index): the same options give
// the same bytes of every JSON file on every machine, and the same media bytes with the same FFmpeg
// libraries.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "protocol/clock.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::data {

// A synthetic corpus of a job spec, and whether it has a2v and v2a, too: it does where data.tasks
// names av_matching.
struct SynthOptions : SyntheticCorpus {
  SynthOptions() = default;
  SynthOptions(const SyntheticCorpus& corpus, bool with_matching = false)
      : SyntheticCorpus(corpus), matching(with_matching) {}
  bool matching = false;
};

// Raised whenever the same options would render something else.
inline constexpr int kSynthVersion = 1;

// total 0: another process renders it, and is waited for.
struct SynthProgress {
  std::uint64_t done = 0, total = 0;
};

// Test rows of each data set.
std::uint64_t synthetic_test_rows(const SyntheticCorpus& options);
// "synth-v1-SEED-N" of an easy one, else "synth-v1-DIFFICULTY-SEED-N"; with the data sets of
// av_matching "-matching" follows
std::string synthetic_name(const SynthOptions& options);

// Renders the corpus into `folder` with `threads` threads. Written to FOLDER.partial and renamed
// when complete and on disk, so a folder that is there is whole; a FOLDER.partial that an earlier
// run left is removed first. Two callers at once are kept apart by the lock file FOLDER.lock: the
// second waits, at most `wait`, and finds the work done. `progress` is called from the calling
// thread.
//
// Already there with the same options: nothing is done. already_exists when `folder` holds
// something else; disk_full, permission_denied or io_error name the file; timeout when another
// process holds the lock for too long; unsupported names missing encoders. After an error nothing
// is left but the lock file.
Status synthesize(const SynthOptions& options, const std::filesystem::path& folder, int threads,
                  const std::function<void(SynthProgress)>& progress,
                  Duration wait = std::chrono::minutes(30));

// The corpus in `parent`, rendered first when it is missing; safe when several processes ask at
// once, as above. Returns its folder.
Result<std::filesystem::path> ensure_synthetic(const SynthOptions& options,
                                               const std::filesystem::path& parent, int threads,
                                               const std::function<void(SynthProgress)>& progress,
                                               Duration wait = std::chrono::minutes(30));

}  // namespace crabcast::data
