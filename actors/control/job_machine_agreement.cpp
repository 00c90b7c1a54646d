// What all members of a job must see alike, as long as it lives: its corpus and its base.
#include <algorithm>
#include <vector>

#include "actors/control/job_machine.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kFilesNamed = 3;

std::string samples(std::uint64_t count) {
  return std::to_string(count) + (count == 1 ? " sample" : " samples");
}

// "/c/ks/test.json has 5 samples, not 4"; empty: it is as it was. A hash of 0: no such file.
std::string file_difference(const std::string& file, std::uint64_t hash_before,
                            std::uint64_t count_before, std::uint64_t hash, std::uint64_t count) {
  if (hash_before == hash) return "";
  if (hash == 0) return file + " is gone";
  if (hash_before == 0) return file + " is new";
  if (count_before == count) return file + " has other rows";
  return file + " has " + samples(count) + ", not " + std::to_string(count_before);
}

// What differs, file by file.
std::string corpus_difference(const pb::CorpusInfo& before, const pb::CorpusInfo& now) {
  std::vector<std::string> all;
  const auto set_of = [](const pb::CorpusInfo& corpus, std::uint32_t dataset) {
    const auto& sets = corpus.datasets();
    const auto found = std::find_if(sets.begin(), sets.end(),
                                    [&](const auto& set) { return set.dataset() == dataset; });
    return found == sets.end() ? nullptr : &*found;
  };
  for (const auto& set : now.datasets())
    if (set_of(before, set.dataset()) == nullptr)
      all.push_back("the data set " + set.name() + " in " + now.folder() + " is new");
  for (const auto& old : before.datasets()) {
    const auto* set = set_of(now, old.dataset());
    if (set == nullptr) {
      all.push_back("the data set " + old.name() + " is gone from " + now.folder());
      continue;
    }
    const std::string folder = now.folder() + "/" + set->name();
    for (const auto& one : {file_difference(folder + "/train.json", old.train_hash(), old.train(),
                                            set->train_hash(), set->train()),
                            file_difference(folder + "/test.json", old.test_hash(), old.test(),
                                            set->test_hash(), set->test())})
      if (!one.empty()) all.push_back(one);
  }
  if (all.empty()) return "its rows differ";
  std::string text;
  for (std::size_t i = 0; i < std::min(all.size(), kFilesNamed); ++i)
    text += (i == 0 ? "" : ", ") + all[i];
  if (all.size() > kFilesNamed)
    text += ", and " + std::to_string(all.size() - kFilesNamed) + " more";
  return text;
}

}  // namespace

// All members must see the same corpus, as long as the job lives: another one would give its steps
// other samples (S-1). Only loaders know how many steps the epochs make.
bool JobMachine::accept_corpus(const std::string& role, TimePoint now) {
  const Member& member = members_.at(role);
  if (!member.registration.has_corpus()) return true;
  const auto& corpus = member.registration.corpus();
  if (corpus_ && corpus_->fingerprint() != corpus.fingerprint()) {
    const std::string who = role + " on node " + member.slot.node() + " sees another corpus than ";
    const std::string what = corpus_difference(*corpus_, corpus);
    leave(pb::JOB_FAILED,
          {Errc::data_error,
           last_commit_ == 0
               ? who + "the others: " + what + "; make the folders equal on all nodes"
               : who + "the one that this job was trained on up to step " +
                     std::to_string(last_commit_) + ": " + what +
                     "; put it back as it was, on all nodes, or train on what is there now with a "
                     "job of another name"},
          now);
    return false;
  }
  const auto steps = std::max(corpus.steps(), corpus_ ? corpus_->steps() : 0);
  corpus_ = corpus;
  corpus_->set_steps(steps);
  check_quarantine(now);
  return phase_ != Phase::leaving;
}

// The base is not in the checksums that members compare: all of them add the same sums, whatever
// made them.
bool JobMachine::accept_base(const std::string& role, TimePoint now) {
  const Member& member = members_.at(role);
  const auto& hash = member.registration.base_hash();
  if (hash.empty()) return true;
  if (base_hash_.value_or(hash) != hash) {
    leave(pb::JOB_FAILED,
          {Errc::invalid_argument,
           role + " on node " + member.slot.node() + " sees another base than " +
               (last_commit_ == 0 ? "the others" : "the job's checkpoints were made with") + ": " +
               hash + " instead of " + *base_hash_ + "; make model.base the same on all nodes"},
          now);
    return false;
  }
  base_hash_ = hash;
  return true;
}

}  // namespace crabcast::actors
