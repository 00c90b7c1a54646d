#include "data/cache_entry.h"

#include <ATen/ops/from_blob.h>

#include <bit>
#include <cstring>
#include <limits>
#include <span>

#include "protocol/checksum.h"

namespace crabcast::data {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "CCT1";
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kMaxDimensions = 8;

std::size_t aligned(std::size_t at) {
  return (at + kAlignment - 1) / kAlignment * kAlignment;
}

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::uint64_t checksum(std::string_view bytes) {
  return checksum64(std::as_bytes(std::span(bytes.data(), bytes.size())));
}

// Reads from the front; `good` turns false where the bytes end too early.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  template <class T>
  T take() {
    T value{};
    if (const std::string_view field = take(sizeof value); good)
      std::memcpy(&value, field.data(), sizeof value);
    return value;
  }
  std::string_view take(std::size_t count) {
    good = good && count <= bytes_.size() - at_;
    if (!good) return {};
    at_ += count;
    return bytes_.substr(at_ - count, count);
  }
  void align() { (void)take(aligned(at_) - at_); }
  bool good = true;

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

struct Shape {
  at::ScalarType type{};
  std::vector<std::int64_t> sizes;
  std::size_t bytes = 0;
};

bool is_plain(std::uint8_t type) {
  return type <= static_cast<int>(at::kBFloat16) && !c10::isComplexType(at::ScalarType(type)) &&
         !c10::isQIntType(at::ScalarType(type));
}

Shape read_shape(Cursor& cursor) {
  Shape shape;
  const auto type = cursor.take<std::uint8_t>();
  const auto dimensions = cursor.take<std::uint8_t>();
  cursor.good = cursor.good && is_plain(type) && dimensions <= kMaxDimensions;
  if (!cursor.good) return shape;
  shape.type = static_cast<at::ScalarType>(type);
  shape.bytes = c10::elementSize(shape.type);
  for (int i = 0; i < dimensions && cursor.good; ++i) {
    const auto size = cursor.take<std::uint64_t>();
    cursor.good = cursor.good &&
                  (size == 0 || shape.bytes <= std::numeric_limits<std::int64_t>::max() / size);
    shape.bytes *= size;
    shape.sizes.push_back(static_cast<std::int64_t>(size));
  }
  return shape;
}

}  // namespace

std::string encode_entry(const std::vector<at::Tensor>& tensors, std::uint64_t stamp) {
  std::string out(kMagic);
  std::size_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += tensor.nbytes() + 2 * kAlignment;
  out.reserve(bytes + 2 * kAlignment);
  append(out, static_cast<std::uint32_t>(tensors.size()));
  append(out, stamp);
  for (const at::Tensor& tensor : tensors) {
    append(out, static_cast<std::uint8_t>(tensor.scalar_type()));
    append(out, static_cast<std::uint8_t>(tensor.dim()));
    for (const std::int64_t size : tensor.sizes()) append(out, static_cast<std::uint64_t>(size));
  }
  for (const at::Tensor& tensor : tensors) {
    out.resize(aligned(out.size()));
    out.append(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  append(out, checksum(out));
  return out;
}

Result<CacheEntry> decode_entry(std::string_view bytes, std::shared_ptr<const void> keep) {
  std::uint64_t expected = 0;
  if (bytes.size() < sizeof expected) return fail(Errc::corrupt, "a cache entry is cut short");
  std::memcpy(&expected, bytes.data() + bytes.size() - sizeof expected, sizeof expected);
  bytes.remove_suffix(sizeof expected);
  if (checksum(bytes) != expected)
    return fail(Errc::corrupt, "a cache entry does not fit its checksum");
  Cursor cursor(bytes);
  CacheEntry entry;
  const bool known = cursor.take(kMagic.size()) == kMagic;
  const auto count = cursor.take<std::uint32_t>();
  entry.stamp = cursor.take<std::uint64_t>();
  std::vector<Shape> shapes;
  for (std::uint32_t i = 0; known && i < count && cursor.good; ++i)
    shapes.push_back(read_shape(cursor));
  for (const Shape& shape : shapes) {
    cursor.align();
    const std::string_view data = cursor.take(shape.bytes);
    if (!cursor.good) break;
    // Nobody writes to it: a view of what the store holds.
    entry.tensors.push_back(at::from_blob(
        const_cast<char*>(data.data()), shape.sizes, [keep](void* /*data*/) {}, shape.type));
  }
  if (!known || !cursor.good) return fail(Errc::corrupt, "a cache entry is in no known format");
  return entry;
}

}  // namespace crabcast::data
