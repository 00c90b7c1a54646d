#include "data/inspect_media.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "data/file_content.h"
#include "data/media_reader.h"

namespace crabcast::data {
namespace {

constexpr auto kOpenDeadline = std::chrono::seconds(20);
constexpr auto kProgressEvery = std::chrono::milliseconds(200);

struct ClipFacts {
  double seconds = 0;
  std::optional<CacheKey> hash;  // none: unreadable
  std::string problem;
};

ClipFacts look_at(const std::filesystem::path& path) {
  ClipFacts facts;
  const auto hash = file_hash(path);
  if (!hash) {
    facts.problem = hash.error().message;
    return facts;
  }
  DecodeOptions options;
  options.deadline = Clock::now() + kOpenDeadline;
  const auto reader = MediaReader::open(path, options);
  if (!reader) {
    facts.problem = reader.error().message;
    return facts;
  }
  facts.hash = *hash;
  const auto length = (*reader)->format().duration;
  if (length > 0) facts.seconds = static_cast<double>(length) / AV_TIME_BASE;
  return facts;
}

// Facts of every clip, by `threads` threads.
std::vector<ClipFacts> look_at_all(const std::vector<ClipFile>& clips,
                                   const InspectOptions& options) {
  std::vector<ClipFacts> facts(clips.size());
  std::atomic<std::size_t> next = 0, done = 0;
  std::mutex mutex;
  std::condition_variable ended;
  std::vector<std::jthread> threads;
  for (int i = 0; i < std::max(1, options.threads); ++i)
    threads.emplace_back([&] {
      for (auto at = next++; at < clips.size(); at = next++) {
        facts[at] = look_at(clips[at].path);
        if (++done < clips.size()) continue;
        const std::lock_guard lock(mutex);
        ended.notify_all();
      }
    });
  std::unique_lock lock(mutex);
  while (done < clips.size()) {
    ended.wait_for(lock, kProgressEvery);
    if (options.progress) options.progress(done, clips.size());
  }
  return facts;
}

}  // namespace

void inspect_media(const std::vector<ClipFile>& clips, const InspectOptions& options,
                   std::vector<DatasetInspection>& datasets) {
  const auto facts = look_at_all(clips, options);
  std::map<CacheKey, std::size_t> first_of;  // of the clips that hold the same
  for (std::size_t i = 0; i < clips.size(); ++i) {
    const auto& clip = clips[i];
    auto& out = datasets[clip.inspection];
    out.seconds += facts[i].seconds;
    if (!facts[i].hash) {
      if (out.unreadable++ < kListedProblems)
        out.problems.push_back({clip.file, clip.line, facts[i].problem});
      continue;
    }
    const auto [earlier, is_first] = first_of.emplace(*facts[i].hash, i);
    if (is_first) continue;
    const auto& other = clips[earlier->second];
    const bool leaks = clip.split != other.split;
    const bool listed = out.copied_clips++ < kListedProblems;
    if (leaks) ++out.leaking_copies;
    if (listed)
      out.problems.push_back(
          {clip.file, clip.line,
           clip.path.string() + " is a copy of " + other.path.string() +
               (leaks ? ": one is in training, the other in the test split" : "")});
  }
}

}  // namespace crabcast::data
