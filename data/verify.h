// Decodes every sample of a corpus and lists those that cannot be read: `crabcast data verify`.
//
// The list is a text file with one JSON object a line (docs/corpus.md). Beside it, while the work
// is not done, stands LIST.partial: what was found, and how far it got. Any interruption, kill -9
// included, loses at most the last second; the next call goes on from there.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/decode_pool.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::data {

// A sample that cannot be read.
struct BadSample {
  DatasetRow dataset = 0;
  Split split = Split::train;
  std::uint64_t index = 0;
  std::vector<std::string> files;  // that it names, the bad one first; empty: its row is broken
  std::string stage;               // row, open, demux, decode, audio
  std::string reason;
};
std::string to_json_line(const BadSample& bad);  // without a newline

struct VerifyProgress {
  std::uint64_t samples = 0;  // of the corpus
  std::uint64_t done = 0;     // in order; those of earlier calls included
  std::uint64_t bad = 0;
  std::uint64_t found_done = 0;  // by earlier calls
};

struct VerifyOptions {
  std::filesystem::path list;
  std::string corpus;  // its folder, for messages and to know the state of another corpus
  int threads = 1;     // as many as the pool has children
  model::MediaShape shape;
  Duration deadline = std::chrono::seconds(20);         // for each sample
  const std::atomic<bool>* stop = nullptr;              // set: give up after the samples under way
  std::function<void(const VerifyProgress&)> progress;  // from any of the threads, one at a time
};

// Pictures, films, sounds and masks of all samples, train and test. Returns what was found, when
// all was read and the list is written. cancelled: `stop` was set; already_exists: another process
// verifies into the same list; what opening or writing files says; what says that no sample can be
// decoded here (DecodePool::read).
Result<VerifyProgress> verify_corpus(const Corpus& corpus, DecodePool& pool,
                                     const VerifyOptions& options);

}  // namespace crabcast::data
