#include "model/zip_file.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <span>
#include <string_view>

#include "protocol/format.h"

namespace crabcast::model {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::uint32_t kLocal = 0x04034B50, kCentral = 0x02014B50, kEnd = 0x06054B50;
constexpr std::uint32_t kEnd64 = 0x06064B50, kLocator64 = 0x07064B50;
constexpr std::uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr std::uint64_t kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr std::uint32_t kIn64 = 0xFFFFFFFF;  // the number is in the zip64 field
constexpr std::uint16_t kZip64Field = 1;
constexpr std::uint64_t kMostDirectoryBytes = 64ULL << 20;
constexpr std::size_t kLongestName = 512;
constexpr std::uint16_t kEncrypted = 1;

template <class T>
T number_at(std::string_view bytes, std::size_t at) {
  T value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

tl::unexpected<Error> refuse(std::string why) {
  return fail(Errc::corrupt, std::move(why));
}

Result<std::string> bytes_at(const DiskFile& file, std::uint64_t begin, std::uint64_t count) {
  if (begin > file.size() || count > file.size() - begin)
    return refuse("its bytes " + std::to_string(begin) + " to " + std::to_string(begin + count) +
                  " lie beyond the end of the file, which has " + std::to_string(file.size()));
  std::string bytes(count, '\0');
  CRABCAST_TRY(file.read(begin, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

struct Directory {
  std::uint64_t begin = 0, size = 0, entries = 0;
};

// What the zip64 record says, where there is one before the end record.
Result<Directory> find_directory64(const DiskFile& file, std::uint64_t locator) {
  auto pointer = bytes_at(file, locator, kLocator64Bytes);
  if (!pointer) return fail(pointer.error());
  const auto at = number_at<std::uint64_t>(*pointer, 8);
  auto record = bytes_at(file, at, kEnd64Bytes);
  if (!record) return fail(record.error());
  if (number_at<std::uint32_t>(*record, 0) != kEnd64 || at + kEnd64Bytes != locator)
    return refuse("its zip64 end record is not before its locator");
  if (number_at<std::uint32_t>(*pointer, 16) > 1 || number_at<std::uint32_t>(*record, 16) != 0)
    return refuse("it is one of several parts");
  const Directory found{number_at<std::uint64_t>(*record, 48),
                        number_at<std::uint64_t>(*record, 40),
                        number_at<std::uint64_t>(*record, 32)};
  if (found.begin > at || found.size != at - found.begin)
    return refuse("its directory does not end where its end record begins");
  return found;
}

Result<Directory> find_directory(const DiskFile& file) {
  if (file.size() < kEndBytes) return refuse("it is too short for a zip archive");
  const std::uint64_t end = file.size() - kEndBytes;
  auto record = bytes_at(file, end, kEndBytes);
  if (!record) return fail(record.error());
  if (number_at<std::uint32_t>(*record, 0) != kEnd)
    return refuse("no end of a zip archive is at its end; it may be cut off");
  if (number_at<std::uint16_t>(*record, 4) != 0 || number_at<std::uint16_t>(*record, 6) != 0)
    return refuse("it is one of several parts");
  if (end >= kLocator64Bytes) {
    auto before = bytes_at(file, end - kLocator64Bytes, sizeof kLocator64);
    if (!before) return fail(before.error());
    if (number_at<std::uint32_t>(*before, 0) == kLocator64)
      return find_directory64(file, end - kLocator64Bytes);
  }
  const Directory found{number_at<std::uint32_t>(*record, 16),
                        number_at<std::uint32_t>(*record, 12),
                        number_at<std::uint16_t>(*record, 10)};
  if (found.begin > end || found.size != end - found.begin)
    return refuse("its directory does not end where its end record begins");
  return found;
}

// Sizes and place of an entry that the zip64 field of its header holds, in this order.
Status read_zip64_field(std::string_view extra, std::uint64_t& uncompressed,
                        std::uint64_t& compressed, std::uint64_t& place) {
  while (extra.size() >= 4) {
    const auto kind = number_at<std::uint16_t>(extra, 0);
    const std::size_t length = number_at<std::uint16_t>(extra, 2);
    if (length > extra.size() - 4) break;
    std::string_view field = extra.substr(4, length);
    extra.remove_prefix(4 + length);
    if (kind != kZip64Field) continue;
    for (std::uint64_t* value : {&uncompressed, &compressed, &place}) {
      if (*value != kIn64) continue;
      if (field.size() < sizeof *value) return refuse("its zip64 field is too short");
      *value = number_at<std::uint64_t>(field, 0);
      field.remove_prefix(sizeof *value);
    }
    return {};
  }
  if (!extra.empty()) return refuse("its extra fields are cut off");
  if (uncompressed == kIn64 || compressed == kIn64 || place == kIn64)
    return refuse("its zip64 field is missing");
  return {};
}

bool leads_out(std::string_view name) {
  return name.empty() || name.front() == '/' || name.find('\\') != std::string_view::npos ||
         name.find('\0') != std::string_view::npos || name == ".." || name.starts_with("../") ||
         name.ends_with("/..") || name.find("/../") != std::string_view::npos;
}

// One entry of the directory, cut off from its front. `begin` is that of its local header.
Result<ZipEntry> take_entry(std::string_view& directory) {
  if (directory.size() < kCentralBytes || number_at<std::uint32_t>(directory, 0) != kCentral)
    return refuse("its directory has fewer entries than it should");
  const auto flags = number_at<std::uint16_t>(directory, 8);
  const auto method = number_at<std::uint16_t>(directory, 10);
  const std::size_t name_bytes = number_at<std::uint16_t>(directory, 28);
  const std::size_t extra_bytes = number_at<std::uint16_t>(directory, 30);
  const std::size_t comment_bytes = number_at<std::uint16_t>(directory, 32);
  const auto part = number_at<std::uint16_t>(directory, 34);
  std::uint64_t compressed = number_at<std::uint32_t>(directory, 20);
  std::uint64_t uncompressed = number_at<std::uint32_t>(directory, 24);
  std::uint64_t place = number_at<std::uint32_t>(directory, 42);
  ZipEntry entry;
  entry.crc32 = number_at<std::uint32_t>(directory, 16);
  directory.remove_prefix(kCentralBytes);
  if (directory.size() < name_bytes + extra_bytes + comment_bytes)
    return refuse("its directory is cut off");
  entry.name = directory.substr(0, name_bytes);
  const std::string_view extra = directory.substr(name_bytes, extra_bytes);
  directory.remove_prefix(name_bytes + extra_bytes + comment_bytes);

  const auto bad = [&](const std::string& why) {
    return refuse("entry " + excerpt(entry.name) + ": " + why);
  };
  if (entry.name.size() > kLongestName || leads_out(entry.name))
    return bad("its name is not one of a file in a folder");
  if (const auto read = read_zip64_field(extra, uncompressed, compressed, place); !read)
    return bad(read.error().message);
  if ((flags & kEncrypted) != 0) return bad("it is encrypted");
  if (method != 0 || compressed != uncompressed)
    return bad("it is compressed; torch.save stores without");
  if (part != 0) return bad("it is in another part of the archive");
  entry.begin = place;
  entry.size = uncompressed;
  return entry;
}

// Moves `begin` from the entry's local header to its bytes.
Status skip_local_header(const DiskFile& file, std::uint64_t directory, ZipEntry& entry) {
  auto header = bytes_at(file, entry.begin, kLocalBytes);
  if (!header) return fail(header.error());
  if (number_at<std::uint32_t>(*header, 0) != kLocal) return refuse("no header is where it begins");
  const std::size_t name_bytes = number_at<std::uint16_t>(*header, 26);
  const std::size_t extra_bytes = number_at<std::uint16_t>(*header, 28);
  auto name = bytes_at(file, entry.begin + kLocalBytes, name_bytes);
  if (!name) return fail(name.error());
  if (*name != entry.name) return refuse("it has two names");
  entry.begin += kLocalBytes + name_bytes + extra_bytes;
  if (entry.begin > directory || entry.size > directory - entry.begin)
    return refuse("its " + std::to_string(entry.size) + " bytes from " +
                  std::to_string(entry.begin) + " on reach into the directory");
  return {};
}

}  // namespace

Result<std::vector<ZipEntry>> read_zip_entries(const DiskFile& file) {
  auto directory = find_directory(file);
  if (!directory) return fail(directory.error());
  if (directory->size > kMostDirectoryBytes || directory->entries > directory->size / kCentralBytes)
    return refuse("its directory of " + std::to_string(directory->size) + " bytes cannot hold " +
                  std::to_string(directory->entries) + " entries");
  auto bytes = bytes_at(file, directory->begin, directory->size);
  if (!bytes) return fail(bytes.error());

  std::vector<ZipEntry> entries;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> places;  // with their headers
  std::set<std::string> names;
  std::string_view rest = *bytes;
  for (std::uint64_t i = 0; i < directory->entries; ++i) {
    auto entry = take_entry(rest);
    if (!entry) return fail(entry.error());
    const std::uint64_t header = entry->begin;
    const auto within = [&](const Error& error) {
      return fail(error.within("entry " + excerpt(entry->name)));
    };
    if (!names.insert(entry->name).second)
      return refuse("entry " + entry->name + " is there twice");
    if (const auto found = skip_local_header(file, directory->begin, *entry); !found)
      return within(found.error());
    places.emplace_back(header, entry->begin + entry->size);
    entries.push_back(std::move(*entry));
  }
  if (!rest.empty()) return refuse("its directory has more entries than it should");
  std::sort(places.begin(), places.end());
  for (std::size_t i = 1; i < places.size(); ++i)
    if (places[i].first < places[i - 1].second) return refuse("two of its entries overlap");
  std::sort(entries.begin(), entries.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.begin < b.begin; });
  return entries;
}

Status check_zip_entry(const DiskFile& file, const ZipEntry& entry) {
  std::vector<std::byte> piece(std::min<std::uint64_t>(entry.size, 1 << 20));
  uLong crc = ::crc32(0, nullptr, 0);
  for (std::uint64_t done = 0; done < entry.size;) {
    const std::span now(piece.data(), std::min<std::uint64_t>(piece.size(), entry.size - done));
    CRABCAST_TRY(file.read(entry.begin + done, now));
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(now.data()), static_cast<uInt>(now.size()));
    done += now.size();
  }
  if (crc == entry.crc32) return {};
  return refuse("entry " + excerpt(entry.name) + ": its bytes do not match its checksum");
}

}  // namespace crabcast::model
