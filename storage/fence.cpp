#include "storage/fence.h"

#include <charconv>

namespace crabcast::storage {
namespace {

constexpr const char* kFenceKey = "fence";

}  // namespace

Result<std::uint64_t> fence_of(const JobStore& store) {
  const auto text = store.value(kFenceKey);
  if (!text) return fail(text.error());
  if (!text->has_value()) return 0;
  std::uint64_t fence = 0;
  const char* const end = (*text)->data() + (*text)->size();
  const auto read = std::from_chars((*text)->data(), end, fence);
  if (read.ec != std::errc{} || read.ptr != end)
    return fail(Errc::corrupt, "value/fence is not what a coordinator writes");
  return fence;
}

Status take_fence(JobStore& store, std::uint64_t fence) {
  const auto before = fence_of(store);
  if (!before) return fail(before.error());
  if (*before > fence)
    return fail(Errc::stale_generation, "a coordinator with fence " + std::to_string(*before) +
                                            " has had this store since; " + std::to_string(fence) +
                                            " may not write to it any more");
  if (*before == fence) return {};
  return store.put_value(kFenceKey, std::to_string(fence), Sync::yes);
}

}  // namespace crabcast::storage
