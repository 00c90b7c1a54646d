#include "data/decode_pool.h"

#include <limits.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "data/pool_child.h"
#include "protocol/format.h"

namespace crabcast::data {
namespace {

struct Task {
  pb::DecodeRequest request;
  Duration deadline;
  std::promise<Result<SampleMedia>> answer;
};

pb::DecodeRequest request_of(const Sample& sample, const model::MediaShape& shape,
                             Duration deadline) {
  pb::DecodeRequest request;
  request.set_dataset(sample.dataset);
  request.set_video(sample.video.string());
  request.set_image(sample.image.string());
  request.set_audio(sample.audio.string());
  request.set_second_video(sample.second_video.string());
  request.set_second_audio(sample.second_audio.string());
  request.set_frame_index(sample.frame_index);
  request.set_deadline_us(static_cast<std::uint64_t>(
      std::max<std::int64_t>(0, std::chrono::ceil<std::chrono::microseconds>(deadline).count())));
  request.set_image_size(shape.image_size);
  request.set_patch_size(shape.patch_size);
  request.set_temporal_patch(shape.temporal_patch);
  request.set_merge(shape.merge);
  request.set_mel_bins(shape.mel_bins);
  request.set_seconds_per_grid(shape.seconds_per_grid);
  return request;
}

// One thread for each child: it starts the child, so that the child lives as long as the thread,
// and hands it one sample after the other.
class Pool final : public DecodePool {
 public:
  ~Pool() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  Status open(const DecodePoolOptions& options) {
    std::vector<std::future<Status>> started;
    for (int i = 0; i < std::max(1, options.children); ++i) {
      children_.push_back(std::make_unique<PoolChild>(options));
      auto ready = std::make_shared<std::promise<Status>>();
      started.push_back(ready->get_future());
      threads_.emplace_back([this, ready, child = children_.back().get()] {
        ready->set_value(child->start());
        serve(*child);
        child->stop();
      });
    }
    Status all;
    for (auto& one : started)
      if (auto status = one.get(); !status) all = std::move(status);
    return all;
  }

  Result<SampleMedia> read(const Sample& sample, const model::MediaShape& shape,
                           Duration deadline) override {
    for (const auto* path : media_files(sample))
      if (path->native().size() >= PATH_MAX)  // nor would it fit into a packet
        return fail(Errc::data_error, excerpt(path->string(), 80) + ": open: the name is too long");
    Task task{request_of(sample, shape, deadline), deadline, {}};
    auto answer = task.answer.get_future();
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
    return answer.get();
  }

  [[nodiscard]] std::vector<pid_t> children() const override {
    std::vector<pid_t> pids;
    for (const auto& child : children_) pids.push_back(child->pid());
    return pids;
  }

 private:
  void serve(PoolChild& child) {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task.answer.set_value(child.read(task.request, task.deadline));
    }
  }

  std::vector<std::unique_ptr<PoolChild>> children_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;  // of the following
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool stopping_ = false;
};

}  // namespace

Result<std::unique_ptr<DecodePool>> DecodePool::start(const DecodePoolOptions& options) {
  auto pool = std::make_unique<Pool>();
  if (auto opened = pool->open(options); !opened) return fail(opened.error());
  return pool;
}

}  // namespace crabcast::data
