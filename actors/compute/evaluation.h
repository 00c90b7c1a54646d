// One evaluation: generate answers for held-out samples and score each task.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "actors/compute/progress.h"
#include "actors/compute/sample_reader.h"
#include "data/corpus.h"
#include "model/session.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::actors {

// What a checkpoint is compared with on the same samples: a score's details "untrained" and
// "constant".
struct Reference {
  double untrained = 0;
  std::string constant_answer;
};
using References = std::map<std::string, Reference>;  // by task

// `session` holds the adapter before its first step.
Result<References> measure_references(model::Session& session, const SampleReader& reader,
                                      const data::Corpus& corpus, const pb::Evaluate& request,
                                      Progress& progress, const std::function<bool()>& give_up);

// The same samples for the same corpus and count, whoever evaluates: of each task's data sets in
// turn, evenly spread over their test rows. One that cannot be read or scored is left out.
// cancelled when `give_up` says so.
Result<pb::EvaluationRecord> evaluate(model::Session& session, const SampleReader& reader,
                                      const data::Corpus& corpus, const pb::Evaluate& request,
                                      const References& references, Progress& progress,
                                      const std::function<bool()>& give_up);

}  // namespace crabcast::actors
