#include "data/media_marks.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <vector>

#include "data/files.h"
#include "data/index_db.h"
#include "data/row_scan.h"
#include "protocol/checksum.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

constexpr int kMostWriters = 64;
constexpr std::uint64_t kMostBytes = 8ULL << 30;
constexpr std::size_t kBlockBytes = 1U << 20;
constexpr std::size_t kMarkBytes = 24;

// Under the file's path: three numbers of 8 bytes.
struct Mark {
  std::uint64_t size = 0, mtime_ns = 0, checksum = 0;

  [[nodiscard]] bool same_stamp(const Mark& other) const {
    return size == other.size && mtime_ns == other.mtime_ns;
  }
};

std::optional<Mark> read_mark(rocksdb::DB& db, const fs::path& file) {
  std::string value;
  if (!db.Get({}, file.string(), &value).ok() || value.size() != kMarkBytes) return std::nullopt;
  const std::string_view bytes(value);
  return Mark{read_number(bytes, 8), read_number(bytes.substr(8), 8),
              read_number(bytes.substr(16), 8)};
}

class RocksMediaMarks final : public MediaMarks {
 public:
  RocksMediaMarks(std::unique_ptr<rocksdb::DB> mine,
                  std::vector<std::unique_ptr<rocksdb::DB>> others)
      : mine_(std::move(mine)), others_(std::move(others)) {}

  Result<MediaState> check(const fs::path& file) override {
    struct stat status {};
    if (::stat(file.c_str(), &status) != 0) return fail(error_from_errno(errno, file.string()));
    Mark now{static_cast<std::uint64_t>(status.st_size),
             static_cast<std::uint64_t>(status.st_mtim.tv_sec) * 1'000'000'000 +
                 static_cast<std::uint64_t>(status.st_mtim.tv_nsec),
             0};
    const auto known = find(file);
    if (known && known->same_stamp(now)) return MediaState::same;
    const auto checksum = file_checksum(file);
    if (!checksum) return fail(checksum.error());
    now.checksum = *checksum;
    CRABCAST_TRY(write(file, now));
    if (!known) return MediaState::unknown;
    return known->checksum == now.checksum ? MediaState::same : MediaState::changed;
  }

 private:
  [[nodiscard]] std::optional<Mark> find(const fs::path& file) const {
    if (auto mark = read_mark(*mine_, file)) return mark;
    for (const auto& other : others_)
      if (auto mark = read_mark(*other, file)) return mark;
    return std::nullopt;
  }

  Status write(const fs::path& file, const Mark& mark) {
    std::string value;
    append_number(value, mark.size, 8);
    append_number(value, mark.mtime_ns, 8);
    append_number(value, mark.checksum, 8);
    const auto status = mine_->Put({}, file.string(), value);
    if (!status.ok()) return fail(error_of(status, "mark " + file.string()));
    return {};
  }

  std::unique_ptr<rocksdb::DB> mine_;
  std::vector<std::unique_ptr<rocksdb::DB>> others_;  // as they were at the opening
};

}  // namespace

Result<std::uint64_t> file_checksum(const fs::path& path) {
  const auto descriptor = open_regular(path);
  if (!descriptor) return fail(descriptor.error());
  Checksum64 sum;
  std::vector<std::byte> block(kBlockBytes);
  std::uint64_t bytes = 0;
  ssize_t got = 1;
  while (got != 0 && bytes <= kMostBytes) {
    got = ::read(*descriptor, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) break;
    sum.add({block.data(), static_cast<std::size_t>(got)});
    bytes += static_cast<std::uint64_t>(got);
  }
  const int number = errno;
  ::close(*descriptor);
  if (got < 0) return fail(error_from_errno(number, path.string()));
  if (bytes > kMostBytes) return fail(Errc::data_error, path.string() + ": is larger than 8 GiB");
  return sum.value();
}

Result<std::unique_ptr<MediaMarks>> MediaMarks::open(const fs::path& corpus,
                                                     const fs::path& cache) {
  std::error_code error;
  const auto whole = fs::canonical(corpus, error);
  if (error) return fail(error_from_errno(error.value(), corpus.string()));
  CRABCAST_TRY(make_folder(cache));
  const auto place = (cache / index_name(whole)).string() + ".media-";
  std::unique_ptr<rocksdb::DB> mine;
  std::vector<std::unique_ptr<rocksdb::DB>> others;
  for (int n = 0; n < kMostWriters; ++n) {
    const fs::path folder = place + std::to_string(n);
    if (!mine) {
      auto opened = open_db(folder, DbUse::create);
      if (!opened && opened.error().code == Errc::corrupt) {
        // Marks can be made again; what they say of changes since is lost, and nothing else.
        CRABCAST_TRY(remove_folder(folder));
        opened = open_db(folder, DbUse::create);
      }
      if (!opened && opened.error().code != Errc::already_exists) return fail(opened.error());
      if (opened) {
        mine = std::move(*opened);
        continue;
      }
    }
    if (!fs::exists(folder, error)) break;
    if (auto other = open_db(folder, DbUse::read)) others.push_back(std::move(*other));
  }
  if (!mine)
    return fail(Errc::unavailable,
                "too many processes of this node have the corpus open: " + corpus.string());
  return std::make_unique<RocksMediaMarks>(std::move(mine), std::move(others));
}

}  // namespace crabcast::data
