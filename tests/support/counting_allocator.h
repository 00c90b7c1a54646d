// Counts what LibTorch allocates on the host. For tests and benchmarks.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace crabcast::test {

// While one lives, all host memory of tensors is counted, in all threads; only one at a time.
// Memory that was allocated before and freed meanwhile is not, and what outlives it is freed as
// usual.
class CountedMemory final {
 public:
  CountedMemory() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(&allocator(), kFirst); }
  ~CountedMemory() { c10::SetCPUAllocator(before_, kFirst); }
  CountedMemory(const CountedMemory&) = delete;
  CountedMemory& operator=(const CountedMemory&) = delete;

  [[nodiscard]] static std::int64_t held() { return held_bytes(); }  // bytes
  [[nodiscard]] static std::int64_t peak() { return peak_bytes(); }
  // The peak starts again from what is held now, which is returned.
  static std::int64_t reset_peak() {
    peak_bytes() = held_bytes().load();
    return held_bytes();
  }

 private:
  static constexpr std::uint8_t kFirst = 255;  // before the standard one
  static constexpr std::size_t kAlignment = 64;

  static std::atomic<std::int64_t>& held_bytes() {
    static std::atomic<std::int64_t> bytes{0};
    return bytes;
  }
  static std::atomic<std::int64_t>& peak_bytes() {
    static std::atomic<std::int64_t> bytes{0};
    return bytes;
  }

  // The size stands before the memory: LibTorch wants data and context to be one pointer.
  class Allocator final : public c10::Allocator {
   public:
    c10::DataPtr allocate(std::size_t size) override {
      void* block =
          std::aligned_alloc(kAlignment, (size + 2 * kAlignment - 1) / kAlignment * kAlignment);
      if (block == nullptr) throw std::bad_alloc();
      *static_cast<std::int64_t*>(block) = static_cast<std::int64_t>(size);
      const std::int64_t now = held_bytes() += static_cast<std::int64_t>(size);
      if (now > peak_bytes()) peak_bytes() = now;
      void* data = static_cast<char*>(block) + kAlignment;
      return {data, data, &release, c10::kCPU};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &release; }
    void copy_data(void* to, const void* from, std::size_t count) const override {
      default_copy_data(to, from, count);
    }

   private:
    static void release(void* data) {
      if (data == nullptr) return;
      void* block = static_cast<char*>(data) - kAlignment;
      held_bytes() -= *static_cast<std::int64_t*>(block);
      std::free(block);
    }
  };
  static Allocator& allocator() {
    static auto* const one = new Allocator;  // tensors may outlive everything
    return *one;
  }

  c10::Allocator* before_;
};

}  // namespace crabcast::test
