#include "apps/chaos/check.h"

#include <algorithm>

#include "protocol/checksum.h"
#include "storage/job_store.h"

namespace crabcast::chaos {
namespace {

constexpr std::size_t kEventsPage = 1000;

// Without what depends on when and by how many it was done.
std::string what_was_trained(pb::CommitRecord commit) {
  commit.clear_generation();
  commit.clear_unix_ms();
  commit.clear_stages();
  commit.clear_seconds();
  commit.clear_members();
  commit.clear_work();
  commit.clear_fence();
  commit.clear_corpus();
  for (auto& bad : *commit.mutable_quarantined()) bad.clear_unix_ms();
  return commit.SerializeAsString();
}

}  // namespace

Result<Outcome> read_outcome(const std::filesystem::path& folder) {
  auto opened = storage::JobStore::open_read_only(folder);
  if (!opened) return fail(opened.error());
  const auto& store = **opened;
  Outcome outcome;
  std::uint64_t expected = 1;
  CRABCAST_TRY(store.for_each_commit(Step{0}, [&](const pb::CommitRecord& commit) {
    if (commit.step() != expected++)
      outcome.problems.push_back("T-1: step " + std::to_string(commit.step()) + " follows step " +
                                 std::to_string(expected - 2));
    outcome.steps.push_back(what_was_trained(commit));
    return true;
  }));
  auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  for (const auto id : *ids) {
    auto report = store.verify(id);
    if (!report) return fail(report.error());
    for (const auto& problem : report->problems)
      outcome.problems.push_back("C-1: checkpoint " + std::to_string(id.value()) + ": " + problem);
  }
  outcome.checkpoints = static_cast<std::uint32_t>(ids->size());
  if (!ids->empty()) {
    auto manifest = store.manifest(ids->back());
    if (!manifest) return fail(manifest.error());
    outcome.state = std::to_string(manifest->step());
    for (const auto& chunk : manifest->chunks())
      outcome.state += " " + std::to_string(chunk.xxh3_high()) + std::to_string(chunk.xxh3_low());
  }
  for (std::uint64_t after = 0;;) {
    auto page = store.events(after, kEventsPage);
    if (!page) return fail(page.error());
    for (const auto& event : *page)
      if (event.has_incident()) outcome.incidents.push_back(event);
    if (page->size() < kEventsPage) break;
    after = page->back().seq();
  }
  return outcome;
}

std::vector<std::string> compare(const Outcome& calm, const Outcome& disturbed) {
  auto problems = disturbed.problems;
  if (calm.steps.size() != disturbed.steps.size())
    problems.push_back("T-1: the ledger has " + std::to_string(disturbed.steps.size()) +
                       " steps, that of the undisturbed run " + std::to_string(calm.steps.size()));
  const auto common = std::min(calm.steps.size(), disturbed.steps.size());
  const auto differs =
      std::mismatch(calm.steps.begin(), calm.steps.begin() + static_cast<std::ptrdiff_t>(common),
                    disturbed.steps.begin());
  if (differs.first != calm.steps.begin() + static_cast<std::ptrdiff_t>(common))
    problems.push_back("T-2: step " + std::to_string(differs.first - calm.steps.begin() + 1) +
                       " has other samples, losses or checksums than in the undisturbed run");
  if (calm.state != disturbed.state)
    problems.push_back("T-2: the last checkpoint is another one than that of the undisturbed run");
  return problems;
}

std::vector<std::string> check_incidents(
    const std::vector<pb::Event>& incidents,
    const std::map<std::string, std::pair<int, int>>& expected) {
  std::map<std::string, int> found;
  for (const auto& [culprit, count] : expected) found[culprit] = 0;
  for (const auto& event : incidents) ++found[event.incident().culprit()];
  std::vector<std::string> problems;
  for (const auto& [culprit, count] : found) {
    const auto known = expected.find(culprit);
    const auto [least, most] = known == expected.end() ? std::pair(0, 0) : known->second;
    if (count >= least && count <= most) continue;
    std::string text = "H-1: " + std::to_string(count) + " incidents name " + culprit +
                       ", expected " + std::to_string(least);
    if (most != least) text += " to " + std::to_string(most);
    for (const auto& event : incidents)
      if (event.incident().culprit() == culprit) text += "; " + event.incident().evidence();
    problems.push_back(std::move(text));
  }
  return problems;
}

}  // namespace crabcast::chaos
