#include "apps/compute/verify_verb.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <future>
#include <iostream>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "actors/control/state_folder.h"
#include "apps/cli/signals.h"
#include "apps/compute/verb_output.h"
#include "data/datasets.h"
#include "data/verify.h"
#include "protocol/format.h"
#include "protocol/tasks.h"

namespace crabcast::apps {
namespace {

namespace fs = std::filesystem;

constexpr auto kDrawEvery = std::chrono::milliseconds(200);
constexpr auto kLineEvery = std::chrono::seconds(10);  // where no terminal shows the bar

struct Options {
  std::string folder, out;
  int processes = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  bool decode = false, json = false;
};

// What the threads report last.
class Latest {
 public:
  void set(const data::VerifyProgress& progress) {
    const std::lock_guard lock(mutex_);
    progress_ = progress;
  }
  [[nodiscard]] data::VerifyProgress get() const {
    const std::lock_guard lock(mutex_);
    return progress_;
  }

 private:
  mutable std::mutex mutex_;
  data::VerifyProgress progress_;
};

// A line on stderr: drawn again and again on a terminal, every ten seconds elsewhere.
class ProgressLine {
 public:
  ~ProgressLine() {
    if (live_ && drawn_) std::fputs("\r\033[K", stderr);
  }
  void show(const data::VerifyProgress& now) {
    const auto time = Clock::now();
    if (now.samples == 0 || time - shown_ < (live_ ? Duration(kDrawEvery) : Duration(kLineEvery)))
      return;
    shown_ = time;
    drawn_ = true;
    const double rate =
        static_cast<double>(now.done - now.found_done) / std::max(1e-3, seconds(time - start_));
    const double left = static_cast<double>(now.samples - now.done) / std::max(1e-9, rate);
    std::fprintf(stderr, "%s%s %llu of %llu samples, %llu bad, %.1f samples/s, %s left%s",
                 live_ ? "\r\033[K" : "", live_ ? bar(now).c_str() : "verified",
                 static_cast<unsigned long long>(now.done),
                 static_cast<unsigned long long>(now.samples),
                 static_cast<unsigned long long>(now.bad), rate, format_duration(left).c_str(),
                 live_ ? "" : "\n");
  }

 private:
  static std::string bar(const data::VerifyProgress& now) {
    constexpr std::uint64_t kCells = 24;
    const auto full = static_cast<std::size_t>(now.done * kCells / now.samples);
    return "[" + std::string(full, '#') + std::string(kCells - full, '.') + "]";
  }

  const bool live_ = ::isatty(STDERR_FILENO) == 1;
  const TimePoint start_ = Clock::now();
  TimePoint shown_ = start_;
  bool drawn_ = false;
};

struct Opened {
  std::unique_ptr<data::Corpus> corpus;
  std::unique_ptr<data::DecodePool> pool;
};

// Those of an optional task where one of its data sets is there.
std::vector<std::string> tasks_in(const fs::path& folder) {
  std::set<std::string> tasks = {"all"};
  for (const auto& dataset : data::datasets())
    if (is_optional(dataset.task) && fs::exists(folder / dataset.id))
      tasks.insert(std::string(task_name(dataset.task)));
  return {tasks.begin(), tasks.end()};
}

Result<Opened> open(const Options& options) {
  Opened opened;
  auto corpus = data::Corpus::open(options.folder, tasks_in(options.folder),
                                   actors::StateFolder::standard().indexes());
  if (!corpus) return fail(corpus.error());
  opened.corpus = std::move(*corpus);
  data::DecodePoolOptions decoding;
  decoding.children = options.processes;
  auto pool = data::DecodePool::start(decoding);
  if (!pool) return fail(pool.error());
  opened.pool = std::move(*pool);
  return opened;
}

Exit report(const Options& options, const data::VerifyProgress& found, Duration time) {
  const bool stopped = found.done < found.samples;
  if (options.json)
    std::cout << nlohmann::ordered_json{{"corpus", options.folder},
                                        {"samples", found.samples},
                                        {"done", found.done},
                                        {"done_by_earlier_calls", found.found_done},
                                        {"bad", found.bad},
                                        {"list", options.out},
                                        {"seconds", seconds(time)}}
                     .dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << "\n";
  else if (stopped)
    std::cout << "stopped after " << found.done << " of " << found.samples
              << " samples; the same command goes on from there\n";
  else if (found.bad == 0)
    std::cout << "all " << found.samples << " samples can be read\n";
  else
    std::cout << found.bad << " of " << found.samples
              << " samples cannot be read; they are listed in " << options.out << "\n";
  return stopped ? Exit::stopped : found.bad == 0 ? Exit::ok : Exit::failed;
}

Exit verify(Options options) {
  const StopSignals signals;  // before any thread starts
  if (options.out.empty())
    options.out = (fs::path(options.folder) / "crabcast-quarantine.jsonl").string();
  auto opened = open(options);
  if (!opened) return complain(opened.error(), options.json);

  std::atomic<bool> stop = false;
  Latest latest;
  data::VerifyOptions task;
  task.list = options.out;
  task.corpus = fs::absolute(options.folder).lexically_normal().string();
  task.threads = options.processes;
  task.stop = &stop;
  task.progress = [&](const data::VerifyProgress& progress) { latest.set(progress); };
  const auto start = Clock::now();
  auto work = std::async(std::launch::async,
                         [&] { return data::verify_corpus(*opened->corpus, *opened->pool, task); });
  {
    ProgressLine line;
    while (work.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      if (signals.wait(kDrawEvery)) stop = true;
      line.show(latest.get());
    }
  }
  const auto found = work.get();
  if (!found) return complain(found.error(), options.json);
  return report(options, *found, Clock::now() - start);
}

}  // namespace

void add_verify_verb(CLI::App& data, int& code) {
  auto options = std::make_shared<Options>();
  auto* verb =
      data.add_subcommand("verify",
                          "Decode every sample of a corpus and list those that cannot be read;\n"
                          "goes on where it was stopped\n"
                          "Example: crabcast data verify /data/AVUIE_2 --decode");
  verb->add_option("folder", options->folder, "The corpus")->required();
  verb->add_flag("--decode", options->decode,
                 "Decode all media (without it, crabcast data inspect says what is missing)")
      ->required();
  verb->add_option("--out", options->out,
                   "The list, a JSON object a line (default: crabcast-quarantine.jsonl in the "
                   "corpus)");
  verb->add_option("--processes", options->processes, "Decoding processes")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  verb->add_flag("--json", options->json, "Print JSON");
  verb->callback([options, &code] { code = static_cast<int>(verify(*options)); });
}

}  // namespace crabcast::apps
