#include "model/safetensors_header.h"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/strict_json.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

using nlohmann::json;
using Entry = SafetensorsFile::Entry;

constexpr std::string_view kMetadata = "__metadata__";
constexpr std::size_t kMostDimensions = 8;
constexpr std::size_t kLongestName = 512;

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 9> kTypes = {{
    {"U8", at::kByte},
    {"I8", at::kChar},
    {"I16", at::kShort},
    {"I32", at::kInt},
    {"I64", at::kLong},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"F32", at::kFloat},
    {"F64", at::kDouble},
}};

std::string known_types() {
  std::vector<std::string> names;
  for (const auto& [name, type] : kTypes) names.emplace_back(name);
  return join_names(names);
}

Result<at::ScalarType> parse_type(const json& value) {
  if (value.is_string())
    for (const auto& [name, type] : kTypes)
      if (value.get_ref<const std::string&>() == name) return type;
  return fail(Errc::corrupt,
              "dtype is " + excerpt(value.dump()) + "; it must be one of " + known_types());
}

// A whole number that an int64 holds.
bool is_size(const json& value) {
  return value.is_number_unsigned() &&
         value.get<std::uint64_t>() <=
             static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
}

Result<std::vector<std::int64_t>> parse_shape(const json& value) {
  if (!value.is_array() || value.size() > kMostDimensions ||
      !std::all_of(value.begin(), value.end(), is_size))
    return fail(Errc::corrupt, "shape is " + excerpt(value.dump()) +
                                   "; it must be a list of at most " +
                                   std::to_string(kMostDimensions) + " sizes");
  return value.get<std::vector<std::int64_t>>();
}

// Bytes that the shape takes. A size of 0 does not hide an overflow of the others.
Result<std::uint64_t> byte_count(const std::vector<std::int64_t>& shape, at::ScalarType type) {
  std::int64_t extent = static_cast<std::int64_t>(c10::elementSize(type));
  bool empty = false;
  for (const std::int64_t size : shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(extent, std::max<std::int64_t>(size, 1), &extent))
      return fail(Errc::corrupt,
                  "shape " + shape_text(shape) + " has more bytes than can be counted");
  }
  return empty ? 0 : static_cast<std::uint64_t>(extent);
}

Result<Entry> parse_entry(const std::string& name, const json& value, std::uint64_t data_bytes) {
  constexpr const char* kFields[] = {"dtype", "shape", "data_offsets"};
  if (name.size() > kLongestName)
    return fail(Errc::corrupt, "its name has more than " + std::to_string(kLongestName) + " bytes");
  if (!value.is_object() || value.size() != std::size(kFields) ||
      !std::all_of(std::begin(kFields), std::end(kFields),
                   [&](const char* field) { return value.contains(field); }))
    return fail(Errc::corrupt,
                "its entry must have dtype, shape and data_offsets, and nothing else");
  Entry entry;
  entry.name = name;
  auto type = parse_type(value["dtype"]);
  CRABCAST_TRY(type);
  entry.type = *type;
  auto shape = parse_shape(value["shape"]);
  if (!shape) return fail(shape.error());
  entry.shape = std::move(*shape);
  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !is_size(offsets[0]) || !is_size(offsets[1]))
    return fail(Errc::corrupt,
                "data_offsets is " + excerpt(offsets.dump()) + "; it must be [begin, end]");
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  const std::string range =
      "its bytes " + std::to_string(entry.begin) + " to " + std::to_string(entry.end);
  if (entry.end < entry.begin) return fail(Errc::corrupt, range + " end before they begin");
  if (entry.end > data_bytes)
    return fail(Errc::corrupt, range + " lie beyond the end of the file, which has " +
                                   std::to_string(data_bytes) + " bytes of data");
  auto bytes = byte_count(entry.shape, entry.type);
  CRABCAST_TRY(bytes);
  if (*bytes != entry.end - entry.begin)
    return fail(Errc::corrupt, range + " are " + std::to_string(entry.end - entry.begin) +
                                   ", but " + *safetensors_type_name(entry.type) + " " +
                                   shape_text(entry.shape) + " takes " + std::to_string(*bytes));
  return entry;
}

Result<std::map<std::string, std::string>> parse_metadata(const json& value) {
  if (!value.is_object() ||
      !std::all_of(value.begin(), value.end(), [](const json& one) { return one.is_string(); }))
    return fail(Errc::corrupt, "__metadata__ must be an object of texts");
  return value.get<std::map<std::string, std::string>>();
}

// One after the other, from the first byte to the last.
Status check_that_data_is_filled(const std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::vector<const Entry*> by_place;
  for (const Entry& entry : entries) by_place.push_back(&entry);
  std::sort(by_place.begin(), by_place.end(), [](const Entry* a, const Entry* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  std::uint64_t end = 0;
  const Entry* before = nullptr;
  for (const Entry* entry : by_place) {
    if (entry->begin < end)
      return fail(Errc::corrupt, "the tensors " + excerpt(before->name, 200) + " and " +
                                     excerpt(entry->name, 200) + " overlap");
    if (entry->begin > end)
      return fail(Errc::corrupt, "no tensor has the bytes " + std::to_string(end) + " to " +
                                     std::to_string(entry->begin) + " of the data");
    end = entry->end;
    before = entry;
  }
  if (end == data_bytes) return {};
  return fail(Errc::corrupt, "no tensor has the bytes " + std::to_string(end) + " to " +
                                 std::to_string(data_bytes) + " of the data");
}

}  // namespace

std::optional<std::string> safetensors_type_name(at::ScalarType type) {
  for (const auto& [name, known] : kTypes)
    if (known == type) return std::string(name);
  return std::nullopt;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::vector<std::string> sizes;
  for (const std::int64_t size : shape) sizes.push_back(std::to_string(size));
  return "[" + join_names(sizes) + "]";
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view text,
                                                   std::uint64_t data_bytes) {
  auto parsed = parse_strict_json(text);
  if (!parsed) return fail(parsed.error().within("its header is"));
  if (!parsed->is_object()) return fail(Errc::corrupt, "its header is no JSON object");
  SafetensorsHeader header;
  for (const auto& [name, value] : parsed->items()) {
    if (name == kMetadata) {
      auto metadata = parse_metadata(value);
      if (!metadata) return fail(metadata.error());
      header.metadata = std::move(*metadata);
      continue;
    }
    auto entry = parse_entry(name, value, data_bytes);
    if (!entry) return fail(entry.error().within("tensor " + excerpt(name, 200)));
    header.entries.push_back(std::move(*entry));
  }
  CRABCAST_TRY(check_that_data_is_filled(header.entries, data_bytes));
  return header;
}

Result<std::string> print_safetensors_header(const SafetensorsHeader& header) {
  auto text = nlohmann::ordered_json::object();
  if (!header.metadata.empty()) text[kMetadata] = header.metadata;
  for (const Entry& entry : header.entries)
    text[entry.name] = {{"dtype", *safetensors_type_name(entry.type)},
                        {"shape", entry.shape},
                        {"data_offsets", {entry.begin, entry.end}}};
  try {
    return text.dump();
  } catch (const json::type_error&) {
    return fail(Errc::invalid_argument, "a name or a text of a safetensors file is not UTF-8");
  }
}

}  // namespace crabcast::model
