#include "data/synth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "data/files.h"
#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr std::string_view kStampName = "crabcast-synth.json";
constexpr std::string_view kSensesName = "crabcast-senses.jsonl";
// How often a waiting caller looks at the workers, and reports progress.
constexpr auto kProgressInterval = std::chrono::milliseconds(100);

std::string stamp_text(const SynthOptions& options) {
  ordered_json stamp = {{"format", kSynthVersion},
                        {"seed", options.seed},
                        {"samples_per_dataset", options.samples_per_dataset}};
  if (options.difficulty != Difficulty::easy) stamp["difficulty"] = to_string(options.difficulty);
  if (options.matching) stamp["with"] = {task_name(Task::av_matching)};
  return stamp.dump(1) + "\n";
}

enum class Found { nothing, same, other };

// What stands where the corpus is to be.
Result<Found> look_at(const fs::path& folder, const SynthOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(folder, error);
  if (status.type() == fs::file_type::not_found) return Found::nothing;
  if (fs::is_directory(folder, error) && fs::is_empty(folder, error) && !error)
    return Found::nothing;
  auto stamp = read_file(folder / kStampName);
  if (stamp) return *stamp == stamp_text(options) ? Found::same : Found::other;
  if (stamp.error().code == Errc::not_found) return Found::other;
  return fail(std::move(stamp).error());
}

// All samples of a corpus, rendered by several threads, each row kept until its JSON is written.
class Rendering {
 public:
  Rendering(const SynthOptions& options, fs::path folder)
      : folder_(std::move(folder)), requests_(synthetic_requests(options)) {
    rows_.resize(requests_.size());
    senses_.resize(requests_.size());
  }

  Status run(int threads, const std::function<void(SynthProgress)>& progress) {
    const auto wanted =
        std::min<std::size_t>(static_cast<std::size_t>(std::max(1, threads)), requests_.size());
    std::vector<std::jthread> workers;
    std::optional<Error> not_started;
    try {
      for (std::size_t i = 0; i < wanted; ++i) workers.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      not_started =
          Error{Errc::resource_exhausted, std::string("starting threads: ") + error.what()};
    }
    if (not_started && workers.empty()) return fail(*not_started);
    wait_for_workers(progress);
    workers.clear();
    if (failure_) return fail(*failure_);
    CRABCAST_TRY(write_rows());
    return write_senses();
  }

 private:
  void work() {
    for (;;) {
      const std::size_t at = next_.fetch_add(1);
      if (at >= requests_.size()) return;
      Status status = [&]() -> Status {
        try {
          return render(at);
        } catch (const std::bad_alloc&) {
          return fail(Errc::resource_exhausted, "out of memory while rendering");
        } catch (const std::exception& error) {
          return fail(Errc::internal, std::string("rendering: ") + error.what());
        }
      }();
      const std::scoped_lock lock(mutex_);
      if (!status && !failure_) {
        failure_ = std::move(status).error();
        next_.store(requests_.size());  // the others stop after their sample
      }
      ++done_;
      changed_.notify_all();
    }
  }

  Status render(std::size_t at) {
    const SynthRequest& request = requests_[at];
    auto sample = render_sample(request);
    if (!sample) return fail(std::move(sample).error());
    const fs::path folder = folder_ / request.table().id;
    for (const MediaFile& file : sample->files) {
      const fs::path path = folder / file.path;
      CRABCAST_TRY(make_folder(path.parent_path()));
      CRABCAST_TRY(write_file(path, file.bytes));
    }
    rows_[at] = sample->row.dump();
    senses_[at] = sample->senses;
    return {};
  }

  void wait_for_workers(const std::function<void(SynthProgress)>& progress) {
    const std::uint64_t total = requests_.size();
    for (std::uint64_t seen = 0;;) {
      bool finished = false;
      {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, kProgressInterval,
                          [&] { return done_ == total || failure_.has_value(); });
        finished = done_ == total || failure_.has_value();
        seen = failure_ ? 0 : done_;
      }
      if (progress && seen > 0) progress({seen, total});
      if (finished) return;
    }
  }

  // One row a line, so that a broken line can be named.
  Status write_rows() {
    for (std::size_t at = 0; at < requests_.size();) {
      const SynthRequest& first = requests_[at];
      std::string text;
      for (; at < requests_.size() && requests_[at].dataset == first.dataset &&
             requests_[at].train_row() == first.train_row();
           ++at)
        text += (text.empty() ? "[\n" : ",\n") + rows_[at];
      const fs::path path =
          folder_ / first.table().id / (first.train_row() ? "train.json" : "test.json");
      CRABCAST_TRY(write_file(path, text + "\n]\n"));
    }
    return {};
  }

  // What the answer of each row needs; nothing where scenes do not say.
  Status write_senses() {
    std::string text;
    for (std::size_t at = 0; at < requests_.size(); ++at) {
      if (!senses_[at]) continue;
      const ordered_json line = {{"dataset", requests_[at].table().id},
                                 {"clip", requests_[at].clip()},
                                 {"needs", to_string(*senses_[at])}};
      text += line.dump() + "\n";
    }
    return text.empty() ? Status() : write_file(folder_ / kSensesName, text);
  }

  fs::path folder_;
  std::vector<SynthRequest> requests_;
  // Each entry is written by the thread that rendered it.
  std::vector<std::string> rows_;
  std::vector<std::optional<Senses>> senses_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::uint64_t done_ = 0;
  std::optional<Error> failure_;
};

fs::path with_ending(const fs::path& folder, std::string_view ending) {
  fs::path path = folder;
  path += ending;
  return path;
}

}  // namespace

std::uint64_t synthetic_test_rows(const SyntheticCorpus& options) {
  return std::max<std::uint64_t>(4, options.samples_per_dataset / 4);
}

std::string synthetic_name(const SynthOptions& options) {
  const std::string difficulty = options.difficulty == Difficulty::easy
                                     ? std::string()
                                     : std::string(to_string(options.difficulty)) + "-";
  return "synth-v" + std::to_string(kSynthVersion) + "-" + difficulty +
         std::to_string(options.seed) + "-" + std::to_string(options.samples_per_dataset) +
         (options.matching ? "-matching" : "");
}

Status synthesize(const SynthOptions& options, const fs::path& folder, int threads,
                  const std::function<void(SynthProgress)>& progress, Duration wait) {
  if (options.samples_per_dataset == 0)
    return fail(Errc::invalid_argument, "a corpus needs at least one sample for each data set");
  std::error_code error;
  fs::path target = fs::absolute(folder, error).lexically_normal();
  if (error) return fail(error_from_errno(error.value(), folder.string()));
  if (!target.has_filename()) target = target.parent_path();

  CRABCAST_TRY(make_folder(target.parent_path()));
  auto lock = FileLock::acquire(with_ending(target, ".lock"), wait, [&] {
    if (progress) progress({});
  });
  if (!lock) return fail(std::move(lock).error());
  const auto found = look_at(target, options);
  if (!found) return fail(found.error());
  if (*found == Found::same) return {};
  if (*found == Found::other)
    return fail(Errc::already_exists,
                target.string() + " holds something else; choose another folder");

  const fs::path partial = with_ending(target, ".partial");
  CRABCAST_TRY(remove_folder(partial));
  const Status status = [&]() -> Status {
    CRABCAST_TRY(make_folder(partial));
    CRABCAST_TRY(Rendering(options, partial).run(threads, progress));
    CRABCAST_TRY(write_file(partial / kStampName, stamp_text(options)));
    return publish_folder(partial, target);
  }();
  if (status) return {};
  Error failure = status.error();
  if (const Status removed = remove_folder(partial); !removed)
    failure.message += "; also: " + removed.error().message;
  return fail(std::move(failure));
}

Result<fs::path> ensure_synthetic(const SynthOptions& options, const fs::path& parent, int threads,
                                  const std::function<void(SynthProgress)>& progress,
                                  Duration wait) {
  fs::path folder = parent / synthetic_name(options);
  CRABCAST_TRY(synthesize(options, folder, threads, progress, wait));
  return folder;
}

}  // namespace crabcast::data
