#include "data/media_marks.h"

#include <optional>
#include <string_view>
#include <vector>

#include "data/files.h"
#include "data/index_db.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

constexpr int kMostWriters = 64;
constexpr std::size_t kMarkBytes = 32;

// Under the file's path: four numbers of 8 bytes.
struct Mark {
  std::uint64_t size = 0, mtime_ns = 0;
  CacheKey hash;
};

std::optional<Mark> read_mark(rocksdb::DB& db, const fs::path& file) {
  std::string value;
  if (!db.Get({}, file.string(), &value).ok() || value.size() != kMarkBytes) return std::nullopt;
  const std::string_view bytes(value);
  const auto number = [&](std::size_t i) { return read_number(bytes.substr(8 * i), 8); };
  return Mark{number(0), number(1), {number(2), number(3)}};
}

class RocksMediaMarks final : public MediaMarks {
 public:
  RocksMediaMarks(std::unique_ptr<rocksdb::DB> mine,
                  std::vector<std::unique_ptr<rocksdb::DB>> others)
      : mine_(std::move(mine)), others_(std::move(others)) {}

  Result<MediaState> check(const FileContent& file) override {
    const auto known = find(file.path);
    const auto size = file.stamp.size, mtime_ns = file.stamp.mtime_ns;
    if (known && known->size == size && known->mtime_ns == mtime_ns) return MediaState::same;
    const auto hash = file.hash ? Result<CacheKey>(*file.hash) : file_hash(file.path);
    if (!hash) return fail(hash.error());
    CRABCAST_TRY(write(file.path, {size, mtime_ns, *hash}));
    if (!known) return MediaState::unknown;
    return known->hash == *hash ? MediaState::same : MediaState::changed;
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
    for (const auto number : {mark.size, mark.mtime_ns, mark.hash.high, mark.hash.low})
      append_number(value, number, 8);
    const auto status = mine_->Put({}, file.string(), value);
    if (!status.ok()) return fail(error_of(status, "mark " + file.string()));
    return {};
  }

  std::unique_ptr<rocksdb::DB> mine_;
  std::vector<std::unique_ptr<rocksdb::DB>> others_;  // as they were at the opening
};

}  // namespace

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
