// Which sample sits in which slot of which step (invariants S-1 and S-2). Pure: no I/O, no clock,
// no state that a resume would have to replay; everything is a function of (plan, step, slot).
//
// task_balanced: each global batch gets the same number of samples of each task, up to one, and the
// long run is exact: after every T slots each of the T tasks was served once (largest remainder
// carried on). Within a task, data sets share in proportion to their sizes: at any moment within
// two samples of the exact share, and exactly at the end of each cycle (as many draws as the task
// has samples). The other policies share out each batch by a tree of weights (draw_tree.h), with
// the same bounds: proportional by the sizes of all data sets; temperature by the sizes to the
// power of 1 / temperature; weights and adaptive by the weights of the tasks, and within a task by
// size.
//
// Every data set is drawn through in a seeded permutation, a new one each epoch, whatever its share
// and however that changes: no sample comes again before all others of its data set came. When a
// data set was drawn `most_epochs` times, its share goes to the others: of its task, or, when the
// whole task is done, of all.
//
// The mixture is constant from one slot to another: a segment. A new one begins where a data set is
// done, and at each change of policy adaptive; the plan holds those changes, so the sampler stays a
// pure function. Which slot of a batch a task or data set gets turns with a hash of the seed, so
// that no lane is always given the heavy media.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/draw_tree.h"
#include "data/permutation.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"
#include "protocol/tasks.h"

namespace crabcast::data {

struct SourceSize {
  std::uint32_t dataset = 0;  // row in data/datasets.h
  Task task{};
  std::uint64_t samples = 0;  // train split, at least 1
};

// From a step on, the tasks have these weights (policy adaptive; before: 1000 each).
struct MixtureChange {
  std::uint64_t first_step = 0;
  std::array<std::uint32_t, kTaskCount> weights{};  // in thousandths, at least 1
};

struct SamplerPlan {
  MixtureSpec mixture;
  std::vector<SourceSize> sources;
  std::uint64_t seed = 1;
  std::uint32_t global_batch = 8;
  std::vector<Task> tasks;             // the chosen tasks; empty: those of the sources
  std::vector<MixtureChange> changes;  // in the order of their steps
};

struct Draw {
  std::uint32_t dataset = 0;
  std::uint64_t index = 0;  // position in the train split
  std::uint64_t epoch = 0;  // of that data set
  friend bool operator==(const Draw&, const Draw&) = default;
};

// Thread-safe: const after create. Memory: a few hundred bytes a data set and segment.
class Sampler {
 public:
  // data_error when a source is empty, a chosen task has none, or a weight names a data set that is
  // none of the sources; says which. invalid_argument when a data set is named twice, a source's
  // task was not chosen, the batch is 0, changes are out of order or belong to another policy, or
  // there are more than 2^56 samples.
  static Result<Sampler> create(SamplerPlan plan);
  // The samples of a step (from 1), in slot order; none beyond steps_allowed().
  // O(global_batch + log segments), whatever the step.
  [[nodiscard]] std::vector<Draw> batch(std::uint64_t step) const;
  // Steps until every sample of the corpus was due `epochs` times, or `most_epochs` times, rounded
  // up, and at most steps_allowed(): how `train.epochs` becomes a number of steps. A fraction of an
  // epoch means that share of each data set's samples. 0 when `epochs` is not positive.
  [[nodiscard]] std::uint64_t steps_for_epochs(double epochs) const;
  // Full batches until all data sets were drawn `most_epochs` times; without such a limit so many
  // that 2^60 samples are drawn.
  [[nodiscard]] std::uint64_t steps_allowed() const;
  // How many samples the first `steps` steps draw of each source, in the order of data sets.
  [[nodiscard]] std::vector<std::uint64_t> drawn(std::uint64_t steps) const;

 private:
  struct Source {
    std::uint32_t dataset = 0;
    Task task{};
    Divisor samples;
    Permutation order;
    std::uint64_t most = 0;  // draws in all
    double weight = 1;       // within its task
  };
  // Data sets that share a row of draws: those of one task, or all.
  struct Group {
    DrawTree tree;
    std::vector<std::uint32_t> sources;  // of each leaf
    std::vector<std::uint64_t> before;   // draws of each leaf's source before this segment
  };
  struct Segment {
    std::uint64_t first = 0;  // slot
    std::vector<Group> groups;
    std::uint64_t turn = 0;  // task_balanced: slots after which the order of tasks turns
  };
  using TaskWeights = std::array<double, kTaskCount>;

  void add_segments(std::uint64_t end, const TaskWeights& weights,
                    std::vector<std::uint64_t>& drawn);
  [[nodiscard]] Segment make_segment(std::uint64_t first, const TaskWeights& weights,
                                     const std::vector<std::uint64_t>& drawn) const;
  [[nodiscard]] Group make_group(const std::vector<std::vector<std::uint32_t>>& branches,
                                 const TaskWeights& weights,
                                 const std::vector<std::uint64_t>& drawn) const;
  [[nodiscard]] std::uint64_t end_of(const Segment& segment) const;
  void count(const Segment& segment, std::uint64_t slots, std::vector<std::uint64_t>& counts) const;
  [[nodiscard]] std::vector<std::uint64_t> drawn_in_slots(std::uint64_t slots) const;
  [[nodiscard]] const Segment& segment_at(std::uint64_t slot) const;
  [[nodiscard]] std::uint64_t turned(std::uint64_t count, std::uint64_t places) const;
  [[nodiscard]] std::size_t group_at(const Segment& segment, std::uint64_t slot) const;
  void fill(const Segment& segment, std::uint64_t first, std::span<Draw> draws) const;

  MixtureSpec mixture_;
  std::uint64_t seed_ = 1;
  std::uint64_t global_batch_ = 8;
  std::vector<Source> sources_;
  std::vector<Segment> segments_;
  std::uint64_t end_ = 0;  // slots in all
};

}  // namespace crabcast::data
