// The pool's side of one decoding child process. Private to data/.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <string>

#include "data/decode_pool.h"
#include "data/decode_wire.h"
#include "protocol/descriptor.h"

namespace crabcast::data {

// Belongs to one thread: the kernel kills the child when the thread that started it ends. Only pid
// may be called from others.
class PoolChild {
 public:
  explicit PoolChild(const DecodePoolOptions& options) : options_(options) {}
  PoolChild(const PoolChild&) = delete;
  PoolChild& operator=(const PoolChild&) = delete;
  ~PoolChild() { stop(); }

  // Returns when the child is ready.
  Status start();
  // Kills and reaps it. The status that waitpid gave.
  int stop();
  // As DecodePool::read; starts the child again where it has to.
  Result<SampleMedia> read(const pb::DecodeRequest& request, Duration deadline);

  [[nodiscard]] pid_t pid() const { return pid_; }  // 0: none runs

 private:
  Status spawn();
  Result<SampleMedia> wait_for_answer(const pb::DecodeRequest& request, TimePoint until);
  Result<SampleMedia> died(const std::string& file);

  DecodePoolOptions options_;
  std::atomic<pid_t> pid_ = 0;
  Descriptor socket_;
};

}  // namespace crabcast::data
