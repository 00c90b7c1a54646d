// Decoding in child processes: a file that crashes a decoder, or makes it hang, costs its own
// sample and nothing else.
//
// Children are this program again, in the role `decode-child`, started with exec, so that no state
// of this process's threads is copied. A child that ends, answers nonsense or does not answer in
// time is killed and replaced. Tensors come back in shared memory. What a child reads is bitwise
// what read_media makes in this process with one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "data/sample_media.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::data {

struct DecodePoolOptions {
  int children = 1;
  std::filesystem::path program;  // with the role `decode-child`; empty: the running program
  // Of each child, beyond which its sample is a data_error. A frame of the largest size that is
  // allowed takes half of it while it is resized.
  std::uint64_t memory_bytes = 4ULL << 30;
};

// Thread-safe. No child outlives the process, however that ends.
class DecodePool {
 public:
  // Returns when all children are ready. process_died, or what the system says: they cannot be
  // started.
  static Result<std::unique_ptr<DecodePool>> start(const DecodePoolOptions& options);
  // No call may be under way. Ends the children.
  virtual ~DecodePool() = default;

  // read_media in a child, once one is free; `deadline` counts from then. Errors as those of
  // read_media, with the file and stage "decode" when the child crashed or exceeded its memory
  // (data_error) or had to be killed (timeout); process_died, or what the system says, when no
  // child could be had, which is not the sample's fault.
  virtual Result<SampleMedia> read(const Sample& sample, const model::MediaShape& shape,
                                   Duration deadline) = 0;

  [[nodiscard]] virtual std::vector<pid_t> children() const = 0;
};

}  // namespace crabcast::data
