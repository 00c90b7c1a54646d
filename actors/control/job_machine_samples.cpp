// Samples of a job: the quarantine of those that cannot be read (S-2), and the mixture's changes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <map>
#include <utility>

#include "actors/control/job_machine.h"
#include "protocol/format.h"
#include "protocol/tasks.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kReasonsShown = 3;
constexpr double kPercent = 100;

std::string data_set_name(std::uint32_t dataset) {
  if (dataset < kDatasetNames.size()) return std::string(kDatasetNames.at(dataset));
  return "data set number " + std::to_string(dataset);
}

bool is_same(const pb::SampleRef& a, const pb::SampleRef& b) {
  return a.dataset() == b.dataset() && a.index() == b.index();
}

std::string weights_text(const pb::MixtureChange& change) {
  std::string text = "from step " + std::to_string(change.first_step()) + ":";
  for (const auto& weight : change.weights()) {
    char one[64];
    std::snprintf(one, sizeof one, " %s %.3f", weight.task().c_str(), weight.weight() / 1000.0);
    text += one;
  }
  return text;
}

}  // namespace

std::string sample_name(const pb::SampleRef& sample) {
  return data_set_name(sample.dataset()) + ":" + std::to_string(sample.index());
}

// In quarantine for that step.
bool JobMachine::is_bad(const pb::SampleRef& sample, std::uint64_t step) const {
  const auto found = quarantine_.find({sample.dataset(), sample.index()});
  return found != quarantine_.end() && found->second.step() <= step;
}

// Those that are neither known nor met in another lane of the step. After a rewind one may be met
// in an earlier step than before: it is recorded anew, with that step.
void JobMachine::quarantine_into(pb::CommitRecord& record, const pb::LaneReport& lane) const {
  for (const auto& bad : lane.bad()) {
    const auto is_it = [&](const pb::BadSample& other) {
      return is_same(other.sample(), bad.sample());
    };
    if (is_bad(bad.sample(), record.step()) ||
        std::any_of(record.quarantined().begin(), record.quarantined().end(), is_it))
      continue;
    auto& entry = *record.add_quarantined();
    entry = bad;
    entry.set_step(record.step());
  }
}

// Whether the samples of a step are those that the ledger says: none in quarantine. A sample may be
// read by one loader, in time, and not by another; what is recorded first counts for all. A batch
// that was made before its loader heard of that, and lanes of one step that disagree, are made
// again, with what they are to follow on disk.
bool JobMachine::follows_quarantine(const pb::CommitRecord& record, TimePoint now) {
  std::string which;
  for (const auto& sample : record.samples()) {
    const auto met =
        std::find_if(record.quarantined().begin(), record.quarantined().end(),
                     [&](const pb::BadSample& bad) { return is_same(bad.sample(), sample); });
    if (met != record.quarantined().end()) quarantining_.push_back(*met);
    if (met != record.quarantined().end() || is_bad(sample, record.step()))
      which = sample_name(sample);
  }
  if (which.empty()) return true;
  event(pb::SEVERITY_WARNING, "step_made_again", which,
        "one loader could read it and another could not, so step " + std::to_string(record.step()) +
            " is made again without it");
  generation_reason_ = "a batch held a sample that is in quarantine";
  drop_generation();
  if (!quarantining_.empty()) actions_.push_back(WriteQuarantine{quarantining_});
  open_generation_when_possible(now);
  return false;
}

void JobMachine::on_quarantine_durable(TimePoint now) {
  pb::SamplingHistory news;
  for (const auto& bad : std::exchange(quarantining_, {})) learn_bad(bad, news);
  tell_loaders(news);
  check_quarantine(now);
  open_generation_when_possible(now);
  refresh_status();
}

void JobMachine::on_quarantine_failed(const Error& error, TimePoint now) {
  quarantining_.clear();
  leave(pb::JOB_FAILED, error.within("a bad sample could not be written to the ledger"), now);
}

void JobMachine::learn_bad(const pb::BadSample& bad, pb::SamplingHistory& news) {
  const SampleId id{bad.sample().dataset(), bad.sample().index()};
  if (quarantine_.insert_or_assign(id, bad).second)
    event(pb::SEVERITY_WARNING, "sample_quarantined", sample_name(bad.sample()), bad.reason());
  auto& entry = *news.add_quarantined();
  *entry.mutable_sample() = bad.sample();
  entry.set_step(bad.step());
}

void JobMachine::tell_loaders(const pb::SamplingHistory& news) {
  for (const auto& [role, member] : members_)
    if (member.slot.kind() == pb::ROLE_LOADER && member.registered) send(role, news);
}

// The commit is durable: what it says of samples holds from now on.
void JobMachine::learn_from(const pb::CommitRecord& record, TimePoint now) {
  pb::SamplingHistory news;
  for (const auto& bad : record.quarantined()) learn_bad(bad, news);
  if (mixture_) mixture_->add(record);
  if (record.has_mixture()) {
    event(pb::SEVERITY_INFO, "mixture", job_, weights_text(record.mixture()));
    *news.add_changes() = record.mixture();
  }
  if (news.quarantined_size() + news.changes_size() == 0) return;
  tell_loaders(news);
  if (news.quarantined_size() > 0) check_quarantine(now);
}

void JobMachine::send_sampling_history(const std::string& role) {
  pb::SamplingHistory history;
  for (const auto& [id, bad] : quarantine_) {
    auto& entry = *history.add_quarantined();
    *entry.mutable_sample() = bad.sample();
    entry.set_step(bad.step());
  }
  if (mixture_)
    for (const auto& change : mixture_->changes()) *history.add_changes() = change;
  send(role, history);
}

// Ends the job when a data set has too many bad samples.
void JobMachine::check_quarantine(TimePoint now) {
  if (!corpus_ || phase_ == Phase::leaving) return;
  for (const auto& dataset : corpus_->datasets()) {
    const auto first = quarantine_.lower_bound({dataset.dataset(), 0});
    const auto last = quarantine_.lower_bound({dataset.dataset() + 1, 0});
    const auto bad = static_cast<double>(std::distance(first, last));
    const auto all = static_cast<double>(dataset.train());
    if (bad <= spec_.failure.bad_samples * all) continue;
    std::string reasons;
    std::size_t shown = 0;
    for (auto it = first; it != last && shown < kReasonsShown; ++it, ++shown)
      reasons += (shown == 0 ? "" : "; ") + it->second.reason();
    leave(pb::JOB_FAILED,
          {Errc::data_error,
           dataset.name() + ": " + std::to_string(std::distance(first, last)) + " of " +
               std::to_string(dataset.train()) + " training samples cannot be read (" +
               exact_number(std::round(kPercent * kPercent * bad / all) / kPercent) +
               " %), more than failure.bad_samples allows (" +
               exact_number(kPercent * spec_.failure.bad_samples) + " %): " + reasons +
               (shown < static_cast<std::size_t>(bad) ? "; ..." : "")},
          now);
    return;
  }
}

}  // namespace crabcast::actors
