#include "data/verify.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "data/verify_journal.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

// One sample of the corpus by its place in the order of verification.
struct Place {
  DatasetRow dataset;
  Split split;
  std::uint64_t index;
};

class Order {
 public:
  explicit Order(const Corpus& corpus) : summary_(corpus.summary()) {}

  [[nodiscard]] std::uint64_t size() const {
    std::uint64_t sum = 0;
    for (const auto& one : summary_) sum += one.train + one.test;
    return sum;
  }
  [[nodiscard]] Place at(std::uint64_t place) const {
    for (const auto& one : summary_) {
      if (place < one.train) return {one.dataset, Split::train, place};
      place -= one.train;
      if (place < one.test) return {one.dataset, Split::test, place};
      place -= one.test;
    }
    return {};
  }

 private:
  std::vector<DatasetSummary> summary_;
};

// "FILE: STAGE: REASON", as data/decode.h has it.
void split_message(const std::string& message, const std::vector<fs::path>& files, BadSample& bad) {
  bad.stage = "decode";
  bad.reason = message;
  for (const auto& file : files) {
    const std::string start = file.string() + ": ";
    if (!message.starts_with(start)) continue;
    const auto end = message.find(": ", start.size());
    if (end == std::string::npos) return;
    bad.stage = message.substr(start.size(), end - start.size());
    bad.reason = message.substr(end + 2);
    const auto first = std::find(bad.files.begin(), bad.files.end(), file.string());
    if (first != bad.files.end()) std::rotate(bad.files.begin(), first, first + 1);
    return;
  }
}

// Whether an error is the sample's fault, so that the others can go on.
bool is_of_sample(const Error& error) {
  return error.code == Errc::data_error || error.code == Errc::timeout;
}

class Verification {
 public:
  Verification(const Corpus& corpus, DecodePool& pool, const VerifyOptions& options,
               VerifyJournal journal)
      : corpus_(corpus),
        pool_(pool),
        options_(options),
        order_(corpus),
        journal_(std::move(journal)),
        next_(journal_.done()) {
    progress_ = {order_.size(), journal_.done(), journal_.lines().size(), journal_.done()};
  }

  Result<VerifyProgress> run() {
    std::vector<std::thread> threads;
    for (int i = 0; i < std::max(1, options_.threads); ++i)
      threads.emplace_back([this] { work(); });
    for (auto& thread : threads) thread.join();
    CRABCAST_TRY(journal_.save());
    if (failure_) return fail(*failure_);
    if (progress_.done == progress_.samples) CRABCAST_TRY(journal_.finish());
    return progress_;
  }

 private:
  void work() {
    while (options_.stop == nullptr || !*options_.stop) {
      std::uint64_t place = 0;
      {
        const std::lock_guard lock(mutex_);
        if (failure_ || next_ >= progress_.samples) return;
        place = next_++;
      }
      auto found = look_at(order_.at(place));
      const std::lock_guard lock(mutex_);
      if (!found) {
        if (!failure_) failure_ = found.error();
        return;
      }
      keep(place, std::move(*found));
    }
  }

  // Nothing when the sample is good.
  Result<std::optional<BadSample>> look_at(const Place& place) {
    BadSample bad{place.dataset, place.split, place.index, {}, "row", {}};
    const auto sample = corpus_.sample(place.dataset, place.split, place.index);
    if (!sample) {
      if (!is_of_sample(sample.error())) return fail(sample.error());
      bad.reason = sample.error().message;
      return bad;
    }
    // A mask is a picture, too.
    Sample mask;
    mask.dataset = sample->dataset;
    mask.image = sample->mask;
    std::vector<fs::path> files;
    auto all = media_files(*sample);
    if (!sample->mask.empty()) all.push_back(&sample->mask);
    for (const auto* file : all) {
      files.push_back(*file);
      bad.files.push_back(file->string());
    }
    for (const Sample* one : {&*sample, static_cast<const Sample*>(&mask)}) {
      const auto media = pool_.read(*one, options_.shape, options_.deadline);
      if (media) continue;
      if (!is_of_sample(media.error())) return fail(media.error());
      split_message(media.error().message, files, bad);
      return bad;
    }
    return std::nullopt;
  }

  // Results are written in order, so that one number says how far the work is.
  void keep(std::uint64_t place, std::optional<BadSample> found) {
    waiting_.emplace(place, std::move(found));
    while (!waiting_.empty() && waiting_.begin()->first == progress_.done) {
      if (const auto& bad = waiting_.begin()->second) {
        journal_.add_bad(to_json_line(*bad));
        ++progress_.bad;
      }
      waiting_.erase(waiting_.begin());
      ++progress_.done;
    }
    if (auto saved = journal_.advance(progress_.done); !saved && !failure_)
      failure_ = saved.error();
    if (options_.progress) options_.progress(progress_);
  }

  const Corpus& corpus_;
  DecodePool& pool_;
  const VerifyOptions& options_;
  const Order order_;
  std::mutex mutex_;  // of what follows
  VerifyJournal journal_;
  std::uint64_t next_;
  std::map<std::uint64_t, std::optional<BadSample>> waiting_;  // done before an earlier one
  VerifyProgress progress_;
  std::optional<Error> failure_;
};

}  // namespace

std::string to_json_line(const BadSample& bad) {
  using nlohmann::ordered_json;
  const ordered_json line{{"dataset", datasets()[bad.dataset].id},
                          {"split", bad.split == Split::train ? "train" : "test"},
                          {"index", bad.index},
                          {"files", bad.files},
                          {"stage", bad.stage},
                          {"reason", bad.reason}};
  // File names need not be UTF-8: such bytes are replaced.
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Result<VerifyProgress> verify_corpus(const Corpus& corpus, DecodePool& pool,
                                     const VerifyOptions& options) {
  auto journal = VerifyJournal::open(options.list,
                                     options.corpus + " " + std::to_string(corpus.fingerprint()));
  if (!journal) return fail(journal.error());
  return Verification(corpus, pool, options, std::move(*journal)).run();
}

}  // namespace crabcast::data
