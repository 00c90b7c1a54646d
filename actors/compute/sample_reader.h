// Samples ready for batches: their media out of the node's cache, or else decoded in a child
// process.
#pragma once

#include <memory>

#include "actors/compute/member.h"
#include "data/batch.h"
#include "data/decode_pool.h"
#include "data/media_marks.h"
#include "data/sample_cache.h"

namespace crabcast::actors {

// Whether a sample that failed so is to blame itself, so that the others can go on. Otherwise
// another try may succeed.
bool is_bad_sample(const Error& error);

// Thread-safe.
class SampleReader {
 public:
  // `children` samples are decoded at once. A cache that cannot be opened is told in the log, and
  // costs time only. With `marks`, files that were changed since they were first read are named in
  // the log. Errors as those of DecodePool::start.
  static Result<std::unique_ptr<SampleReader>> open(
      const MemberProcess& process, model::BaseFrontEnd front_end, int children,
      std::unique_ptr<data::MediaMarks> marks = nullptr);

  // Adds what it took to `work`. Errors as those of DecodePool::read.
  Result<data::Processed> read(const data::Sample& sample, pb::LoaderWork& work) const;
  [[nodiscard]] const model::BaseFrontEnd& front_end() const { return front_end_; }

 private:
  SampleReader(model::BaseFrontEnd front_end, std::unique_ptr<data::DecodePool> pool,
               std::unique_ptr<data::SampleCache> cache, std::unique_ptr<data::MediaMarks> marks)
      : front_end_(std::move(front_end)),
        pool_(std::move(pool)),
        cache_(std::move(cache)),
        marks_(std::move(marks)) {}

  [[nodiscard]] Result<data::SampleCache::Answer> media_of(const data::Sample& sample) const;

  model::BaseFrontEnd front_end_;
  std::unique_ptr<data::DecodePool> pool_;
  std::unique_ptr<data::SampleCache> cache_;  // null: none
  std::unique_ptr<data::MediaMarks> marks_;   // null: none
};

}  // namespace crabcast::actors
