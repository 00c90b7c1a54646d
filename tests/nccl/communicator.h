// What stands behind a handle of the NCCL in shared memory: the bytes that ranks exchange, and the
// work that moves them.
#pragma once

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/nccl/host_cuda.h"
#include "tests/nccl/shared_memory_nccl.h"

namespace crabcast::nccl_test {

// From one rank to another.
struct Pipe {
  static constexpr std::size_t kRoom = 64 << 10;
  alignas(64) std::atomic<std::uint64_t> written;
  alignas(64) std::atomic<std::uint64_t> read;
  char bytes[kRoom];

  std::size_t write(const char* from, std::size_t count) {
    const std::uint64_t begin = written;
    count = std::min<std::size_t>(count, kRoom - (begin - read));
    for (std::size_t done = 0; done < count;) {
      const std::size_t at = (begin + done) % kRoom, piece = std::min(count - done, kRoom - at);
      std::memcpy(bytes + at, from + done, piece);
      done += piece;
    }
    written = begin + count;
    return count;
  }
  std::size_t read_into(char* to, std::size_t count) {
    const std::uint64_t begin = read;
    count = std::min<std::size_t>(count, written - begin);
    for (std::size_t done = 0; done < count;) {
      const std::size_t at = (begin + done) % kRoom, piece = std::min(count - done, kRoom - at);
      std::memcpy(to + done, bytes + at, piece);
      done += piece;
    }
    read = begin + count;
    return count;
  }
};

// What the ranks of one unique id share. A file in memory, all zeros at first.
struct World {
  std::atomic<int> joined, finalized;
  Pipe pipes[kMaxRanks][kMaxRanks];  // from, to
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

struct Staged {
  Fault fault = Fault::none;
  std::uint64_t operation = 0;
};
struct Communicator {
  ~Communicator() {
    if (world != nullptr) ::munmap(world, sizeof(World));
  }
  [[nodiscard]] bool meets(Fault fault, std::uint64_t number) const {
    return trouble.fault == fault && trouble.operation == number;
  }

  World* world = nullptr;
  int rank = 0, size = 0;
  Staged trouble;
  std::uint64_t operations = 0;
  bool finalizing = false;
  bool grouped = false;  // a group was started and nobody has asked since
  std::atomic<bool> aborted{false};
  std::string last_error = "no error so far";
};

struct Transfer {
  int peer = 0;
  const char* out = nullptr;
  char* in = nullptr;
  std::size_t bytes = 0;
};

// Sends and receives of one group or one collective operation.
class Exchange : public Work {
 public:
  Exchange(std::shared_ptr<Communicator> comm, std::vector<Transfer> transfers)
      : comm_(std::move(comm)), transfers_(std::move(transfers)), number_(comm_->operations) {}

  bool advance() override {
    if (comm_->aborted) return true;
    if (comm_->meets(Fault::die, number_)) ::raise(SIGKILL);
    if (comm_->meets(Fault::hang, number_) || comm_->meets(Fault::remote_error, number_))
      return false;
    for (Transfer& transfer : transfers_) {
      const auto rank = comm_->rank;
      if (transfer.out != nullptr) {
        const auto count =
            comm_->world->pipes[rank][transfer.peer].write(transfer.out, transfer.bytes);
        transfer.out += count;
        transfer.bytes -= count;
      } else {
        const auto count =
            comm_->world->pipes[transfer.peer][rank].read_into(transfer.in, transfer.bytes);
        transfer.in += count;
        transfer.bytes -= count;
      }
    }
    std::erase_if(transfers_, [](const Transfer& transfer) { return transfer.bytes == 0; });
    if (!transfers_.empty()) return false;
    finish();
    return true;
  }

 protected:
  void add(const Transfer& transfer) { transfers_.push_back(transfer); }
  virtual void finish() {}

 private:
  std::shared_ptr<Communicator> comm_;
  std::vector<Transfer> transfers_;
  std::uint64_t number_;
};

// Everybody gets everybody's elements, and adds them in the order of ranks.
class Sum final : public Exchange {
 public:
  Sum(const std::shared_ptr<Communicator>& comm, float* values, std::size_t count)
      : Exchange(comm, {}),
        values_(values),
        rank_(comm->rank),
        parts_(static_cast<std::size_t>(comm->size), std::vector<float>(count)) {
    for (int peer = 0; peer < comm->size; ++peer) {
      if (peer == rank_) continue;
      const std::size_t bytes = count * sizeof(float);
      auto* const in = reinterpret_cast<char*>(parts_[static_cast<std::size_t>(peer)].data());
      add({peer, reinterpret_cast<const char*>(values), nullptr, bytes});
      add({peer, nullptr, in, bytes});
    }
  }

 private:
  void finish() override {
    const std::size_t count = parts_.front().size();
    std::copy_n(values_, count, parts_[static_cast<std::size_t>(rank_)].begin());
    for (std::size_t i = 0; i < count; ++i) {
      values_[i] = parts_[0][i];
      for (std::size_t peer = 1; peer < parts_.size(); ++peer) values_[i] += parts_[peer][i];
    }
  }

  float* values_;
  int rank_;
  std::vector<std::vector<float>> parts_;
};

}  // namespace crabcast::nccl_test
