// Which sample sits in which slot of which step (invariants S-1 and S-2). Pure: no I/O, no clock,
// no state that a resume would have to replay; everything is a function of (plan, step, slot).
//
// task_balanced: each global batch gets the same number of samples of each task, up to one, and the
// long run is exact: after every T slots each of the T tasks was served once (largest remainder
// carried on). Within a task, data sets share in proportion to their sizes: at any moment within
// two samples of the exact share, and exactly at the end of each cycle (as many draws as the task
// has samples). proportional: the same rule over all data sets. Order within a data set: a seeded
// permutation with random access (Feistel network with cycle walking), a new one each epoch.
//
// Which slot of a batch a task or data set gets turns with a hash of the seed, so that no lane is
// always given the heavy media. Only integers are computed: the same on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "protocol/error.h"
#include "protocol/job_spec.h"
#include "protocol/tasks.h"

namespace crabcast::data {

struct SourceSize {
  std::uint32_t dataset = 0;  // row in data/datasets.h
  Task task{};
  std::uint64_t samples = 0;  // train split, at least 1
};

struct SamplerPlan {
  MixturePolicy policy = MixturePolicy::task_balanced;
  std::vector<SourceSize> sources;
  std::uint64_t seed = 1;
  std::uint32_t global_batch = 8;
  std::vector<Task> tasks;  // the chosen tasks; empty: those of the sources
};

struct Draw {
  std::uint32_t dataset = 0;
  std::uint64_t index = 0;  // position in the train split
  std::uint64_t epoch = 0;  // of that data set
  friend bool operator==(const Draw&, const Draw&) = default;
};

// Thread-safe: const after create. Memory: a few hundred bytes a data set, whatever its size.
class Sampler {
 public:
  // data_error when a source is empty or a chosen task has none; names it. invalid_argument when a
  // data set is named twice, a source's task was not chosen, the batch is 0, or there are more than
  // 2^56 samples.
  static Result<Sampler> create(SamplerPlan plan);
  // The samples of a step (from 1), in slot order. O(global_batch), whatever the step.
  [[nodiscard]] std::vector<Draw> batch(std::uint64_t step) const;
  // The sample at a running slot number (from 0) = (step - 1) * global_batch + slot.
  [[nodiscard]] Draw at(std::uint64_t slot) const;
  // Steps until every sample of the corpus was due `epochs` times, rounded up: how `train.epochs`
  // becomes a number of steps. A fraction of an epoch means that share of each data set's samples.
  // 0 when `epochs` is not positive.
  [[nodiscard]] std::uint64_t steps_for_epochs(double epochs) const;

 private:
  // Division by a number that stays the same: a multiplication and at most one correction.
  struct Divisor {
    std::uint64_t value = 1, reciprocal = ~0ULL;  // floor((2^64 - 1) / value)
    Divisor() = default;
    explicit Divisor(std::uint64_t divisor) : value(divisor), reciprocal(~0ULL / divisor) {}
    struct Parts {
      std::uint64_t quotient, remainder;
    };
    [[nodiscard]] Parts divide(std::uint64_t n) const;  // n < 2^63
  };

  // A seeded permutation of 0 .. samples - 1 for each epoch of one data set.
  struct Source {
    std::uint32_t dataset = 0;
    std::uint64_t samples = 0;
    std::uint64_t rows = 0;  // the Feistel network permutes rows x columns >= samples
    Divisor columns;
    std::uint64_t rounds = 0, key = 0;
    [[nodiscard]] std::uint64_t shuffled(std::uint64_t epoch, std::uint64_t rank) const;
  };

  // A node of the tree that divides a cycle of draws among data sets: of its first q draws,
  // floor(q * share / 2^64 + 1/2) go left and the rest right.
  struct Node {
    std::uint64_t share = 0;            // samples of the left side / samples of both * 2^64
    std::uint32_t left = 0, right = 0;  // another node, or kLeaf + a source
  };

  // Data sets that share a row of draws: those of one task, or all.
  struct Group {
    std::vector<Source> sources;
    std::vector<Node> nodes;
    std::uint32_t root = 0;
    Divisor cycle;  // draws in which each data set completes one epoch
    void build(std::vector<Source> members);
    [[nodiscard]] Draw draw(std::uint64_t n) const;
    // Draws until each data set was drawn `epochs` times its size.
    [[nodiscard]] std::uint64_t draws_for(double epochs) const;
  };

  [[nodiscard]] std::uint64_t turned(std::uint64_t count, std::uint64_t places) const;
  [[nodiscard]] std::size_t group_at(std::uint64_t slot) const;
  [[nodiscard]] std::uint64_t slot_of(std::size_t group, std::uint64_t n) const;

  static constexpr std::uint32_t kLeaf = 1U << 31;

  MixturePolicy policy_ = MixturePolicy::task_balanced;
  std::uint64_t seed_ = 1;
  std::uint64_t global_batch_ = 8;
  std::uint64_t turn_ = 1;  // task_balanced: slots after which the order of tasks turns
  std::vector<Group> groups_;
};

}  // namespace crabcast::data
