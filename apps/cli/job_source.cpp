#include "apps/cli/job_source.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "actors/control/state_folder.h"
#include "apps/cli/client.h"
#include "apps/cli/output.h"
#include "protocol/format.h"
#include "protocol/job_spec.h"
#include "storage/registry.h"

namespace crabcast::apps {
namespace {

namespace fs = std::filesystem;

using actors::StateFolder;

constexpr std::size_t kEventsPage = 1000;
constexpr std::uint64_t kRecentCommits = 20;  // as in a live status
constexpr std::size_t kStoresOpened = 50;  // for one list of jobs; opening one takes milliseconds

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.find('/') == std::string::npos && name != "." && name != "..";
}

Status check_name(const std::string& what, const std::string& name) {
  if (is_plain_name(name)) return {};
  return fail(Errc::invalid_argument, "'" + excerpt(name) + "' is no " + what);
}

bool has_ended(pb::JobState state) {
  return job_is_over(state) && state != pb::JOB_STOPPED;
}

bool is_store(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "CURRENT", ignored);
}

Error unknown_job(const std::string& id) {
  return {Errc::not_found, "no job is named '" + excerpt(id) + "'; see crabcast ps --all"};
}

fs::path job_dir_of(const StateFolder& state, const pb::JobRecord& record) {
  return record.job_dir().empty() ? state.job(record.job()) : fs::path(record.job_dir());
}

// Fills in what the controller forgot when it was started anew: it knows only the record of a job
// that had ended by then.
void complete(const fs::path& store, pb::JobStatus& status) {
  if (status.step() != 0 || !is_store(store)) return;
  auto opened = storage::JobStore::open_read_only(store);
  Status filled = opened ? fill_from_store(**opened, status) : fail(opened.error());
  if (!filled) note(status.job() + ": its store cannot be read: " + filled.error().message);
}

// ---- The controller ---------------------------------------------------------------------------

class LiveJobs final : public JobSource {
 public:
  LiveJobs(std::unique_ptr<ControllerClient> client, const Common& common)
      : client_(std::move(client)),
        // Stores of another cluster's jobs of the same names may be here.
        state_{common.controller.empty() ? common.state : fs::path()} {}

  Result<std::vector<pb::JobStatus>> jobs(bool all) override;
  Result<pb::JobStatus> job(const std::string& id) override;
  Result<std::vector<pb::Event>> events(const std::string& job, std::uint64_t after,
                                        std::uint32_t limit) override;
  Result<pb::LogPiece> log(const std::string& job, const std::string& role, std::uint64_t offset,
                           std::uint32_t limit) override;

 private:
  void complete_here(pb::JobStatus& status) const {
    if (!state_.root.empty() && is_plain_name(status.job()) && job_is_over(status.state()))
      complete(StateFolder::store(state_.job(status.job())), status);
  }
  std::unique_ptr<ControllerClient> client_;
  StateFolder state_;  // empty: not that of the controller
};

Result<std::vector<pb::JobStatus>> LiveJobs::jobs(bool all) {
  pb::ListJobs body;
  body.set_all(all);
  auto answer = client_->ask(body);
  if (!answer) return fail(answer.error());
  auto& list = *answer->mutable_job_list()->mutable_jobs();
  std::vector<pb::JobStatus> jobs(std::make_move_iterator(list.begin()),
                                  std::make_move_iterator(list.end()));
  std::stable_sort(jobs.begin(), jobs.end(), [](const auto& a, const auto& b) {
    return a.submitted_unix_ms() < b.submitted_unix_ms();
  });
  const std::size_t first = jobs.size() > kStoresOpened ? jobs.size() - kStoresOpened : 0;
  for (std::size_t i = first; i < jobs.size(); ++i) complete_here(jobs[i]);
  return jobs;
}

Result<pb::JobStatus> LiveJobs::job(const std::string& id) {
  pb::GetJob body;
  body.set_job(id);
  auto answer = client_->ask(body);
  if (!answer) return fail(answer.error());
  complete_here(*answer->mutable_job_status());
  return answer->job_status();
}

Result<std::vector<pb::Event>> LiveJobs::events(const std::string& job, std::uint64_t after,
                                                std::uint32_t limit) {
  pb::GetEvents body;
  body.set_job(job);
  body.set_after_seq(after);
  body.set_limit(limit);
  auto answer = client_->ask(body);
  if (!answer) return fail(answer.error());
  auto& list = *answer->mutable_event_list()->mutable_events();
  return std::vector<pb::Event>(std::make_move_iterator(list.begin()),
                                std::make_move_iterator(list.end()));
}

Result<pb::LogPiece> LiveJobs::log(const std::string& job, const std::string& role,
                                   std::uint64_t offset, std::uint32_t limit) {
  pb::GetLog body;
  body.set_job(job);
  body.set_role(role);
  body.set_offset(offset);
  body.set_limit(limit);
  auto answer = client_->ask(body);
  if (!answer) return fail(answer.error());
  return answer->log_piece();
}

// ---- The stored state -------------------------------------------------------------------------

class StoredJobs final : public JobSource {
 public:
  explicit StoredJobs(StateFolder state) : state_(std::move(state)) {}

  Result<std::vector<pb::JobStatus>> jobs(bool all) override;
  Result<pb::JobStatus> job(const std::string& id) override;
  Result<std::vector<pb::Event>> events(const std::string& job, std::uint64_t after,
                                        std::uint32_t limit) override;
  Result<pb::LogPiece> log(const std::string& job, const std::string& role, std::uint64_t offset,
                           std::uint32_t limit) override;

 private:
  // A read-only store shows one moment: opened anew for each question.
  [[nodiscard]] Result<std::unique_ptr<storage::Registry>> registry() const {
    return storage::Registry::open_read_only(state_.registry());
  }
  [[nodiscard]] Result<pb::JobRecord> record(const std::string& id) const;
  [[nodiscard]] Result<std::vector<pb::Event>> events_of(const std::string& job) const;
  static pb::JobStatus status_of(const pb::JobRecord& record);

  StateFolder state_;
};

pb::JobStatus StoredJobs::status_of(const pb::JobRecord& record) {
  pb::JobStatus status;
  status.set_job(record.job());
  status.set_name(record.name());
  status.set_state(record.state());
  status.set_reason(record.reason());
  status.set_error_code(record.error_code());
  status.set_submitted_unix_ms(record.submitted_unix_ms());
  status.set_started_unix_ms(record.started_unix_ms());
  status.set_ended_unix_ms(record.ended_unix_ms());
  status.set_job_dir(record.job_dir());
  if (auto spec = parse_job_spec(record.spec_yaml(), record.job()); spec) {
    status.set_priority(std::string(to_string(spec->priority)));
    status.set_steps(spec->train.steps.value_or(0));
  }
  return status;
}

Result<pb::JobRecord> StoredJobs::record(const std::string& id) const {
  auto opened = registry();
  if (!opened) return fail(opened.error());
  auto found = (*opened)->job(JobId{id});
  if (!found) return fail(found.error());
  if (!*found) return fail(unknown_job(id));
  return std::move(**found);
}

Result<std::vector<pb::JobStatus>> StoredJobs::jobs(bool all) {
  auto opened = registry();
  if (!opened) return fail(opened.error());
  auto records = (*opened)->jobs();
  if (!records) return fail(records.error());
  if (!all) std::erase_if(*records, [](const auto& record) { return has_ended(record.state()); });
  std::vector<pb::JobStatus> jobs;
  for (std::size_t i = 0; i < records->size(); ++i) {
    jobs.push_back(status_of((*records)[i]));
    if (records->size() - i <= kStoresOpened)
      complete(StateFolder::store(job_dir_of(state_, (*records)[i])), jobs.back());
  }
  return jobs;
}

Result<pb::JobStatus> StoredJobs::job(const std::string& id) {
  auto found = record(id);
  if (!found) return fail(found.error());
  auto status = status_of(*found);
  complete(StateFolder::store(job_dir_of(state_, *found)), status);
  return status;
}

// The registry has what the controller did and what coordinators told it; the job's store has what
// its coordinator did, also while no controller ran. What is in both counts once.
Result<std::vector<pb::Event>> StoredJobs::events_of(const std::string& id) const {
  auto found = record(id);
  if (!found) return fail(found.error());
  std::vector<pb::Event> all;
  std::multiset<std::string> known;
  const auto key = [](pb::Event event) {
    event.clear_seq();
    return event.SerializeAsString();
  };
  const auto folder = StateFolder::store(job_dir_of(state_, *found));
  if (is_store(folder)) {
    auto store = storage::JobStore::open_read_only(folder);
    if (!store) return fail(store.error());
    for (std::uint64_t after = 0;;) {
      auto page = (*store)->events(after, kEventsPage);
      if (!page) return fail(page.error());
      if (page->empty()) break;
      after = page->back().seq();
      for (auto& event : *page) {
        known.insert(key(event));
        all.push_back(std::move(event));
      }
    }
  }
  auto opened = registry();
  if (!opened) return fail(opened.error());
  for (std::uint64_t after = 0;;) {
    auto page = (*opened)->events(after, kEventsPage);
    if (!page) return fail(page.error());
    if (page->empty()) break;
    after = page->back().seq();
    for (auto& event : *page) {
      if (event.job() != id) continue;
      const auto twin = known.find(key(event));
      if (twin == known.end())
        all.push_back(std::move(event));
      else
        known.erase(twin);
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.unix_ms() < b.unix_ms(); });
  for (std::size_t i = 0; i < all.size(); ++i) all[i].set_seq(i + 1);
  return all;
}

Result<std::vector<pb::Event>> StoredJobs::events(const std::string& job, std::uint64_t after,
                                                  std::uint32_t limit) {
  if (job.empty()) {
    auto opened = registry();
    if (!opened) return fail(opened.error());
    return (*opened)->events(after, limit);
  }
  auto all = events_of(job);
  if (!all) return all;
  const auto first = std::min<std::size_t>(after, all->size());
  const auto last = std::min<std::size_t>(first + limit, all->size());
  return std::vector<pb::Event>(all->begin() + static_cast<std::ptrdiff_t>(first),
                                all->begin() + static_cast<std::ptrdiff_t>(last));
}

Result<pb::LogPiece> StoredJobs::log(const std::string& job, const std::string& role,
                                     std::uint64_t offset, std::uint32_t limit) {
  CRABCAST_TRY(check_name("role", role));
  auto found = record(job);
  if (!found) return fail(found.error());
  const auto path = StateFolder::log(job_dir_of(state_, *found), role);
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::vector<std::string> roles;
    std::error_code ignored;
    for (fs::directory_iterator it(path.parent_path(), ignored), end; !ignored && it != end;
         it.increment(ignored))
      roles.push_back(it->path().stem());
    std::sort(roles.begin(), roles.end());
    return fail(Errc::not_found,
                "no log of role '" + excerpt(role) + "' of " + job + " is here" +
                    (roles.empty() ? "" : "; there are logs of " + join_names(roles)));
  }
  std::string text(limit, '\0');
  file.seekg(static_cast<std::streamoff>(offset));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  pb::LogPiece piece;
  piece.set_next_offset(offset + text.size());
  piece.set_end(text.size() < limit);
  piece.set_text(std::move(text));
  return piece;
}

}  // namespace

Result<std::unique_ptr<JobSource>> JobSource::open(const Common& common) {
  auto client = ControllerClient::connect(common);
  if (client) return std::make_unique<LiveJobs>(std::move(*client), common);
  if (client.error().code != Errc::not_found || !common.controller.empty())
    return fail(client.error());
  const StateFolder state{common.state};
  if (!is_store(state.registry()))
    return fail(Errc::not_found, client.error().message + "; nothing is stored there either");
  note("no controller runs here; this is the stored state of " + state.root.string(), common.quiet);
  return std::make_unique<StoredJobs>(state);
}

Result<fs::path> store_folder(const Common& common, const std::string& job, const fs::path& store) {
  if (!store.empty()) {
    if (!is_store(store) && is_store(StateFolder::store(store))) return StateFolder::store(store);
    return store;  // its opening says what is wrong with it
  }
  CRABCAST_TRY(check_name("job id", job));
  const StateFolder state{common.state};
  fs::path folder = StateFolder::store(state.job(job));
  if (is_store(state.registry())) {
    auto registry = storage::Registry::open_read_only(state.registry());
    if (!registry) return fail(registry.error());
    auto record = (*registry)->job(JobId{job});
    if (!record) return fail(record.error());
    if (*record) folder = StateFolder::store(job_dir_of(state, **record));
  }
  if (is_store(folder)) return folder;
  return fail(Errc::not_found,
              "job '" + job + "' has no store here, in " + folder.string() +
                  "; see crabcast ps --all, or ask on the node of its coordinator");
}

Status fill_from_store(const storage::JobStore& store, pb::JobStatus& status) {
  auto last = store.last_commit();
  if (!last) return fail(last.error());
  if (!*last) return {};
  const std::uint64_t step = (*last)->step();
  auto stored =
      store.value("status");  // of the last run's end; older than the ledger if it went on
  if (!stored) return fail(stored.error());
  pb::JobStatus at_end;
  if (*stored && at_end.ParseFromString(**stored) && at_end.step() == step) {
    *status.mutable_actors() = at_end.actors();
    *status.mutable_stages() = at_end.stages();
    status.set_steps(at_end.steps());
    status.set_workers_wanted(at_end.workers_wanted());
    for (auto& actor : *status.mutable_actors()) actor.set_state(pb::ACTOR_GONE);
  }
  status.set_step(step);
  status.set_generation((*last)->generation());
  std::map<std::string, pb::TaskLoss> recent;
  CRABCAST_TRY(store.for_each_commit(Step{step > kRecentCommits ? step - kRecentCommits : 0},
                                     [&recent](const pb::CommitRecord& commit) {
                                       for (const auto& loss : commit.losses()) {
                                         auto& sum = recent[loss.task()];
                                         sum.set_task(loss.task());
                                         sum.set_loss_sum(sum.loss_sum() + loss.loss_sum());
                                         sum.set_tokens(sum.tokens() + loss.tokens());
                                         sum.set_samples(sum.samples() + loss.samples());
                                       }
                                       return true;
                                     }));
  double loss_sum = 0, tokens = 0;
  status.clear_losses();
  for (const auto& [task, loss] : recent) {
    loss_sum += loss.loss_sum();
    tokens += static_cast<double>(loss.tokens());
    *status.add_losses() = loss;
  }
  status.set_loss(tokens > 0 ? loss_sum / tokens : 0);
  auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  status.set_checkpoints(static_cast<std::uint32_t>(ids->size()));
  if (!ids->empty()) status.set_newest_checkpoint(ids->back().value());
  auto evaluations = store.evaluations();
  if (!evaluations) return fail(evaluations.error());
  if (!evaluations->empty()) *status.mutable_evaluation() = evaluations->back();
  std::uint32_t incidents = 0;
  for (std::uint64_t after = 0;;) {
    auto page = store.events(after, kEventsPage);
    if (!page) return fail(page.error());
    if (page->empty()) break;
    after = page->back().seq();
    for (const auto& event : *page) incidents += event.has_incident() ? 1 : 0;
  }
  status.set_incidents(incidents);
  return {};
}

}  // namespace crabcast::apps
