#include "storage/checkpoint_diff.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <utility>

namespace crabcast::storage {
namespace {

constexpr std::size_t kBlockBytes = 64ULL << 10;  // a multiple of every element's size

using ChunkHash = std::pair<std::uint64_t, std::uint64_t>;
ChunkHash hash_of(const pb::ChunkEntry& entry) {
  return {entry.xxh3_high(), entry.xxh3_low()};
}

// Bytes of a checkpoint's stream, read in order.
class Stream {
 public:
  explicit Stream(const CheckpointReader& reader) : reader_(reader) {
    for (const pb::ChunkEntry& entry : reader.manifest().chunks()) {
      begins_.push_back(end_);
      end_ += entry.bytes();
    }
  }

  Status read(std::uint64_t offset, std::size_t size, std::string& into) {
    into.clear();
    while (into.size() < size) {
      CRABCAST_TRY(find(offset + into.size()));
      const std::size_t from = offset + into.size() - begins_[held_];
      into.append(chunk_, from, size - into.size());
    }
    return {};
  }

  // The chunks that hold bytes of the tensor, with where they begin.
  [[nodiscard]] std::vector<std::pair<std::uint64_t, ChunkHash>> chunks_of(
      const pb::TensorEntry& tensor) const {
    std::vector<std::pair<std::uint64_t, ChunkHash>> found;
    const auto& chunks = reader_.manifest().chunks();
    for (int i = 0; i < chunks.size(); ++i) {
      const std::uint64_t begin = begins_[static_cast<std::size_t>(i)];
      if (begin >= tensor.offset() + tensor.bytes()) break;
      if (begin + chunks[i].bytes() > tensor.offset())
        found.emplace_back(begin, hash_of(chunks[i]));
    }
    return found;
  }

 private:
  Status find(std::uint64_t offset) {
    if (offset >= end_) return fail(Errc::corrupt, "a tensor lies outside the checkpoint");
    const auto after = std::upper_bound(begins_.begin(), begins_.end(), offset);
    const auto index = static_cast<std::size_t>(after - begins_.begin()) - 1;
    if (index == held_) return {};
    auto chunk = reader_.chunk(static_cast<std::uint32_t>(index));
    if (!chunk) return fail(chunk.error());
    chunk_ = std::move(*chunk);
    held_ = index;
    return {};
  }

  const CheckpointReader& reader_;
  std::vector<std::uint64_t> begins_;
  std::uint64_t end_ = 0;
  std::size_t held_ = SIZE_MAX;
  std::string chunk_;
};

template <class T>
T element(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

double from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 0x1F;
  const int fraction = bits & 0x3FF;
  double value = exponent == 31  ? (fraction == 0 ? std::numeric_limits<double>::infinity()
                                                  : std::numeric_limits<double>::quiet_NaN())
                 : exponent == 0 ? std::ldexp(fraction, -24)
                                 : std::ldexp(1024 + fraction, exponent - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}

struct ElementType {
  std::size_t bytes;
  double (*read)(const char*);
};

ElementType element_type(pb::DType type) {
  switch (type) {
    case pb::DTYPE_FLOAT32:
      return {4, [](const char* at) { return static_cast<double>(element<float>(at)); }};
    case pb::DTYPE_FLOAT64:
      return {8, [](const char* at) { return element<double>(at); }};
    case pb::DTYPE_BFLOAT16:
      return {2, [](const char* at) {
                const std::uint32_t bits = std::uint32_t{element<std::uint16_t>(at)} << 16;
                return static_cast<double>(std::bit_cast<float>(bits));
              }};
    case pb::DTYPE_FLOAT16:
      return {2, [](const char* at) { return from_half(element<std::uint16_t>(at)); }};
    case pb::DTYPE_INT64:
      return {8, [](const char* at) { return static_cast<double>(element<std::int64_t>(at)); }};
    case pb::DTYPE_INT32:
      return {4, [](const char* at) { return static_cast<double>(element<std::int32_t>(at)); }};
    default:
      return {1, [](const char* at) { return static_cast<double>(element<std::uint8_t>(at)); }};
  }
}

Status compare(Stream& a, const pb::TensorEntry& before, Stream& b, const pb::TensorEntry& after,
               TensorDifference& difference) {
  if (before.offset() == after.offset() && a.chunks_of(before) == b.chunks_of(after)) return {};
  const ElementType type = element_type(before.dtype());
  double changed = 0, size = 0;
  std::string old_bytes, new_bytes;
  for (std::uint64_t at = 0; at < before.bytes(); at += kBlockBytes) {
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(kBlockBytes, before.bytes() - at));
    CRABCAST_TRY(a.read(before.offset() + at, count, old_bytes));
    CRABCAST_TRY(b.read(after.offset() + at, count, new_bytes));
    if (old_bytes != new_bytes) difference.kind = TensorDifference::Kind::changed;
    for (std::size_t i = 0; i + type.bytes <= count; i += type.bytes) {
      const double from = type.read(old_bytes.data() + i);
      const double change = type.read(new_bytes.data() + i) - from;
      if (!(std::abs(change) <= difference.max_change)) difference.max_change = std::abs(change);
      changed += change * change;
      size += from * from;
    }
  }
  difference.relative_l2 = changed == 0 ? 0 : std::sqrt(changed / size);
  return {};
}

}  // namespace

std::string layout_text(const pb::TensorEntry& tensor) {
  std::string text = pb::DType_Name(tensor.dtype()).substr(sizeof "DTYPE_" - 1) + " [";
  for (int i = 0; i < tensor.shape_size(); ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(tensor.shape(i));
  return text + "]";
}

Result<CheckpointDifference> difference_of(const CheckpointReader& a, const CheckpointReader& b) {
  std::map<std::string, std::pair<const pb::TensorEntry*, const pb::TensorEntry*>> pairs;
  for (const auto& tensor : a.manifest().tensors()) pairs[tensor.name()].first = &tensor;
  for (const auto& tensor : b.manifest().tensors()) pairs[tensor.name()].second = &tensor;
  CheckpointDifference result;
  Stream before(a), after(b);
  for (const auto& [name, pair] : pairs) {
    using Kind = TensorDifference::Kind;
    TensorDifference& difference = result.tensors.emplace_back();
    difference.name = name;
    if (pair.first == nullptr || pair.second == nullptr) {
      difference.kind = pair.first == nullptr ? Kind::added : Kind::removed;
      continue;
    }
    difference.before = layout_text(*pair.first);
    difference.after = layout_text(*pair.second);
    if (difference.before != difference.after) {
      difference.kind = Kind::reshaped;
    } else if (auto done = compare(before, *pair.first, after, *pair.second, difference); !done) {
      return fail(done.error().within(name));
    }
  }
  std::set<ChunkHash> known;
  for (const pb::ChunkEntry& entry : a.manifest().chunks()) known.insert(hash_of(entry));
  for (const pb::ChunkEntry& entry : b.manifest().chunks()) {
    ++result.chunks;
    if (known.contains(hash_of(entry))) ++result.equal_chunks;
  }
  return result;
}

}  // namespace crabcast::storage
