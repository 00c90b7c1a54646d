#include "data/row_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

namespace crabcast::data {
namespace {

// Far above any real file (the largest has some 60 MB); keeps a wrong path from filling the memory.
constexpr std::uint64_t kMaxBytes = 4ULL << 30;
constexpr std::uint64_t kMaxRowBytes = 1ULL << 30;

Status read_at(int descriptor, char* to, std::size_t size, std::uint64_t from,
               const std::filesystem::path& path) {
  while (size > 0) {
    const auto got = ::pread(descriptor, to, size, static_cast<off_t>(from));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error_from_errno(errno, path.string()));
    if (got == 0) return fail(Errc::data_error, path.string() + ": shrank while it was read");
    to += got;
    from += static_cast<std::uint64_t>(got);
    size -= static_cast<std::size_t>(got);
  }
  return {};
}

std::string place(const std::filesystem::path& path, std::string_view text, std::size_t byte) {
  const auto before = text.substr(0, std::min(byte, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const auto start = before.rfind('\n');
  const auto column = before.size() - (start == std::string_view::npos ? 0 : start + 1) + 1;
  return path.string() + ":" + std::to_string(line) + ":" + std::to_string(column) + ": ";
}

// Accepts everything and keeps nothing but the first error.
struct Validator : nlohmann::json_sax<nlohmann::json> {
  std::size_t error_byte = 0;
  std::string error;
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool key(string_t&) override { return true; }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& problem) override {
    error_byte = position;
    // "[json.exception...] parse error at line 2, column 7: what is wrong"
    error = problem.what();
    if (const auto colon = error.find(": "); colon != std::string::npos) error.erase(0, colon + 2);
    return false;
  }
};

}  // namespace

RowFile::RowFile(std::filesystem::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

RowFile::RowFile(RowFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      rows_(std::move(other.rows_)),
      hash_(other.hash_) {}

RowFile::~RowFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<RowFile> RowFile::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return fail(error_from_errno(errno, path.string()));
  RowFile file(path, descriptor);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return fail(error_from_errno(errno, path.string()));
  if (!S_ISREG(status.st_mode))
    return fail(Errc::data_error, path.string() + ": is not a regular file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > kMaxBytes)
    return fail(Errc::data_error, path.string() + ": has more than 4 GiB; this is no list of rows");
  std::string text(size, '\0');
  CRABCAST_TRY(read_at(descriptor, text.data(), text.size(), 0, path));
  Validator validator;
  if (!nlohmann::json::sax_parse(text, &validator))
    return fail(Errc::data_error,
                place(path, text, validator.error_byte == 0 ? 0 : validator.error_byte - 1) +
                    "broken JSON: " + validator.error);
  CRABCAST_TRY(file.find_rows(text));
  return file;
}

// The text is valid JSON: brackets match, and only strings can hide them.
Status RowFile::find_rows(const std::string& text) {
  std::vector<std::uint64_t> hashes;
  const auto first = text.find_first_not_of("\xEF\xBB\xBF \t\r\n");
  if (first == std::string::npos || text[first] != '[')
    return fail(Errc::data_error,
                place(path_, text, first) + "expected an array of objects: [{...}, ...]");
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t at = first; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"') {
      if (depth == 1)
        return fail(Errc::data_error, place(path_, text, at) + "expected an object, not a text");
      for (++at; text[at] != '"'; ++at)
        if (text[at] == '\\') ++at;
    } else if (c == '[' || c == '{') {
      if (depth == 1 && c == '[')
        return fail(Errc::data_error, place(path_, text, at) + "expected an object, not an array");
      if (++depth == 2) begin = at;
    } else if (c == ']' || c == '}') {
      if (--depth != 1) continue;
      const std::size_t length = at + 1 - begin;
      if (length > kMaxRowBytes)
        return fail(Errc::data_error, place(path_, text, begin) + "the row is longer than 1 GiB");
      const auto hash = XXH3_64bits(text.data() + begin, length);
      rows_.push_back(
          {begin, static_cast<std::uint32_t>(length), static_cast<std::uint32_t>(hash)});
      hashes.push_back(hash);
    } else if (depth == 1 && c != ',' && c != ' ' && c != '\t' && c != '\r' && c != '\n') {
      return fail(Errc::data_error, place(path_, text, at) + "expected an object");
    }
  }
  rows_.shrink_to_fit();
  hash_ = XXH3_64bits(hashes.data(), hashes.size() * sizeof(hashes[0]));
  return {};
}

Result<nlohmann::json> RowFile::row(std::uint64_t index) const {
  if (index >= rows_.size())
    return fail(Errc::invalid_argument, path_.string() + ": has " + std::to_string(rows_.size()) +
                                            " rows; row " + std::to_string(index) +
                                            " was asked for");
  const Row& row = rows_[index];
  std::string text(row.length, '\0');
  CRABCAST_TRY(read_at(descriptor_, text.data(), text.size(), row.begin, path_));
  if (static_cast<std::uint32_t>(XXH3_64bits(text.data(), text.size())) != row.check)
    return fail(Errc::data_error, path_.string() + ": row " + std::to_string(index) +
                                      " was changed since the corpus was opened; start again");
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::uint64_t RowFile::line(std::uint64_t index) const {
  if (index >= rows_.size()) return 0;
  std::string text(rows_[index].begin, '\0');
  if (!read_at(descriptor_, text.data(), text.size(), 0, path_)) return 0;
  return 1 + static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace crabcast::data
