// Workloads from a CSV file (docs/scheduling.md lists the columns).
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "protocol/common.pb.h"
#include "protocol/format.h"
#include "scheduler/simulator.h"

namespace crabcast::scheduler {
namespace {

constexpr std::array kColumns = {"id",          "submit",      "queue",     "user", "priority",
                                 "workers_min", "workers_max", "cpus",      "gpus", "memory",
                                 "duration",    "expected",    "time_limit"};
constexpr std::size_t kRequired = 11;  // of them, the first; the others may be missing
constexpr std::uint64_t kMostWorkers = 1024;
constexpr std::array kPriorities = {Priority::low, Priority::normal, Priority::high,
                                    Priority::critical};
constexpr Amount kCoordinatorNeed{100, 0, 256LL << 20};

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  for (const char c : line) {
    if (c == ',')
      cells.emplace_back();
    else if (c != '\r')
      cells.back() += c;
  }
  return cells;
}

class TraceReader {
 public:
  TraceReader(std::string file, Workload base) : file_(std::move(file)), made_(std::move(base)) {}

  Result<Workload> read(const std::string& csv) {
    made_.jobs.clear();
    std::size_t begin = 0;
    while (begin < csv.size()) {
      const std::size_t end = std::min(csv.find('\n', begin), csv.size());
      const std::string text = csv.substr(begin, end - begin);
      begin = end + 1;
      ++line_;
      if (line_ == 1)
        read_header(text);
      else if (!text.empty() && text != "\r")
        read_job(cells_of(text));
      if (line_ == 1 && !mistakes_.empty()) break;
    }
    if (line_ == 0) mistake("", "is empty; its first line names the columns");
    if (!mistakes_.empty()) return fail(Errc::invalid_argument, join_names(mistakes_, "\n"));
    std::stable_sort(made_.jobs.begin(), made_.jobs.end(),
                     [](const auto& a, const auto& b) { return a.submitted < b.submitted; });
    for (std::size_t i = 0; i < made_.jobs.size(); ++i) made_.jobs[i].request.submit_seq = i + 1;
    return std::move(made_);
  }

 private:
  void mistake(const std::string& column, const std::string& what) {
    mistakes_.push_back(file_ + ":" + std::to_string(line_) + ": " +
                        (column.empty() ? "" : column + ": ") + what);
  }

  void read_header(const std::string& text) {
    const std::vector<std::string> known(kColumns.begin(), kColumns.end());
    columns_ = cells_of(text);
    for (const std::string& column : columns_) {
      if (std::find(known.begin(), known.end(), column) != known.end()) continue;
      const auto nearest = nearest_name(column, known);
      mistake(excerpt(column),
              "unknown column" + (nearest ? "; did you mean " + *nearest + "?" : std::string()));
    }
    for (std::size_t i = 0; i < kRequired; ++i)
      if (std::count(columns_.begin(), columns_.end(), known[i]) != 1)
        mistake(known[i], "must be a column once; the columns are " + join_names(known));
  }

  std::string cell(const std::vector<std::string>& cells, const std::string& column) const {
    const auto at = std::find(columns_.begin(), columns_.end(), column) - columns_.begin();
    const auto index = static_cast<std::size_t>(at);
    return index < cells.size() ? cells[index] : "";
  }

  double number(const std::vector<std::string>& cells, const std::string& column, double low) {
    const std::string text = cell(cells, column);
    const auto value = parse_number(text);
    if (value && *value >= low) return *value;
    mistake(column, "\"" + excerpt(text) + "\" is not a number of at least " + exact_number(low));
    return low;
  }

  std::uint64_t whole(const std::vector<std::string>& cells, const std::string& column,
                      std::uint64_t least) {
    const std::string text = cell(cells, column);
    const auto value = parse_whole(text);
    if (value && *value >= least && *value <= kMostWorkers) return *value;
    mistake(column, "\"" + excerpt(text) + "\" is not a whole number from " +
                        std::to_string(least) + " to " + std::to_string(kMostWorkers));
    return least;
  }

  std::optional<double> perhaps(const std::vector<std::string>& cells, const std::string& column) {
    if (cell(cells, column).empty()) return std::nullopt;
    return number(cells, column, 1);
  }

  Priority priority(const std::vector<std::string>& cells) {
    const std::string text = cell(cells, "priority");
    std::vector<std::string> names;
    for (const Priority known : kPriorities) {
      names.emplace_back(crabcast::to_string(known));
      if (names.back() == text) return known;
    }
    const auto nearest = nearest_name(text, names);
    mistake("priority", "\"" + excerpt(text) + "\" is not one of " + join_names(names) +
                            (nearest ? "; did you mean " + *nearest + "?" : ""));
    return Priority::normal;
  }

  void read_job(const std::vector<std::string>& cells) {
    if (cells.size() != columns_.size())
      return mistake("", "has " + std::to_string(cells.size()) + " cells, and there are " +
                             std::to_string(columns_.size()) + " columns");
    SimulatedJob job;
    JobRequest& request = job.request;
    request.id = JobId(cell(cells, "id"));
    if (request.id.value().empty() || !ids_.insert(request.id).second)
      mistake("id", "must be there, and different in each line");
    request.queue = cell(cells, "queue");
    request.owner = cell(cells, "user");
    request.priority = priority(cells);
    job.submitted = number(cells, "submit", 0);
    job.duration = number(cells, "duration", 0.001);
    request.schedule.expected_seconds = perhaps(cells, "expected");
    request.schedule.time_limit_seconds = perhaps(cells, "time_limit");
    const std::uint64_t least = whole(cells, "workers_min", 1);
    const std::uint64_t most = whole(cells, "workers_max", least);
    Amount need{std::llround(number(cells, "cpus", 0) * 1000),
                static_cast<std::int64_t>(whole(cells, "gpus", 0)), 0};
    if (const auto memory = parse_bytes(cell(cells, "memory")); memory && *memory <= INT64_MAX)
      need.memory_bytes = static_cast<std::int64_t>(*memory);
    else
      mistake("memory", "\"" + excerpt(cell(cells, "memory")) + "\" is not a size such as 16GiB");
    if (const Status fits = made_.policy.admits(request.queue, request.owner, request.priority);
        !fits)
      mistake("queue", fits.error().message);
    request.workers_min = static_cast<std::uint32_t>(least);
    request.fixed.push_back({"coordinator", pb::ROLE_COORDINATOR, kCoordinatorNeed});
    for (std::uint64_t i = 0; i < most; ++i)
      request.workers.push_back({"worker-" + std::to_string(i), pb::ROLE_WORKER, need});
    made_.jobs.push_back(std::move(job));
  }

  std::string file_;
  Workload made_;
  std::vector<std::string> columns_;
  std::size_t line_ = 0;
  std::set<JobId> ids_;
  std::vector<std::string> mistakes_;
};

}  // namespace

Result<Workload> read_trace(const std::string& csv, const std::string& file, Workload base) {
  return TraceReader(file, std::move(base)).read(csv);
}

}  // namespace crabcast::scheduler
