// How loaders and evaluators get at the job's corpus.
#pragma once

#include <memory>

#include "actors/compute/member.h"
#include "data/corpus.h"

namespace crabcast::actors {

// Opens the folder of data.corpus.avuie, or renders data.corpus.synthetic first where this node
// does not have it yet. The process's progress says how far it is.
Result<std::unique_ptr<data::Corpus>> open_corpus(MemberProcess& process);
pb::CorpusInfo describe_corpus(const data::Corpus& corpus);

}  // namespace crabcast::actors
