// Files of torch.save, put together byte by byte, so that tests can break any part of them.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace crabcast::model::test {

template <class T>
std::string little(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// ---- Pickles, as Python's pickle writes them with protocol 2

inline std::string pickled_text(const std::string& text) {
  return "X" + little(static_cast<std::uint32_t>(text.size())) + text;
}
inline std::string pickled_whole(std::int64_t value) {
  return std::string("\x8A\x08", 2) + little(value);
}
inline std::string pickled_name(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string pickled_sizes(const std::vector<std::int64_t>& sizes) {
  std::string bytes = "(";
  for (const std::int64_t size : sizes) bytes += pickled_whole(size);
  return bytes + "t";
}

struct DictTensor {
  std::string name;
  std::vector<std::int64_t> shape, strides;
  std::string storage = "0";
  std::int64_t elements = 0;  // of the storage
  std::int64_t offset = 0;
  std::string type = "FloatStorage";
};

inline std::string pickled_tensor(const DictTensor& t) {
  const std::string no_hooks = pickled_name("collections", "OrderedDict") + ")R";
  return pickled_name("torch._utils", "_rebuild_tensor_v2") + "((" + pickled_text("storage") +
         pickled_name("torch", t.type) + pickled_text(t.storage) + pickled_text("cpu") +
         pickled_whole(t.elements) + "tQ" + pickled_whole(t.offset) + pickled_sizes(t.shape) +
         pickled_sizes(t.strides) + "\x89" + no_hooks + "tR";
}

inline std::string pickled_dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string bytes = "\x80\x02}(";
  for (const auto& [name, value] : items) bytes += pickled_text(name) + value;
  return bytes + "u.";
}

inline std::string pickled_state_dict(const std::vector<DictTensor>& tensors) {
  std::vector<std::pair<std::string, std::string>> items;
  for (const DictTensor& t : tensors) items.emplace_back(t.name, pickled_tensor(t));
  return pickled_dict(items);
}

// ---- Zip archives

struct ZipRecord {
  std::string name, bytes;
  std::uint16_t method = 0, flags = 0;
  // Lies that the directory tells; -1: the truth.
  std::int64_t size = -1, place = -1, crc = -1;
  std::string local_name = {};  // where it differs
};

inline std::string zip_header(const ZipRecord& record, const std::string& name,
                              std::uint32_t size) {
  const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(record.bytes.data()),
                           static_cast<uInt>(record.bytes.size()));
  return little(record.flags) + little(record.method) + little(std::uint32_t{0}) +
         little(static_cast<std::uint32_t>(record.crc >= 0 ? record.crc
                                                           : static_cast<std::int64_t>(crc))) +
         little(size) + little(size) + little(static_cast<std::uint16_t>(name.size()));
}

// `wide`: with the zip64 records that archives of more than 4 GiB have.
inline std::string make_zip(const std::vector<ZipRecord>& records, bool wide = false) {
  std::string file, directory;
  for (const ZipRecord& record : records) {
    const std::string& local = record.local_name.empty() ? record.name : record.local_name;
    const auto place = static_cast<std::uint64_t>(
        record.place >= 0 ? record.place : static_cast<std::int64_t>(file.size()));
    const auto size = static_cast<std::uint64_t>(
        record.size >= 0 ? record.size : static_cast<std::int64_t>(record.bytes.size()));
    const auto narrow = [&](std::uint64_t value) {
      return wide ? 0xFFFFFFFFU : static_cast<std::uint32_t>(value);
    };
    // As torch does: the bytes begin at a multiple of 64.
    const std::size_t header = file.size() + 30 + local.size();
    const std::string padding((64 - (header + 4) % 64) % 64, 'Z');
    const std::string extra = "FB" + little(static_cast<std::uint16_t>(padding.size())) + padding;
    file += "PK\3\4" + little(std::uint16_t{0}) + zip_header(record, local, narrow(size)) +
            little(static_cast<std::uint16_t>(extra.size())) + local + extra + record.bytes;
    const std::string field = wide ? little(std::uint16_t{1}) + little(std::uint16_t{24}) +
                                         little(size) + little(size) + little(place)
                                   : "";
    directory += "PK\1\2" + little(std::uint16_t{0}) + little(std::uint16_t{0}) +
                 zip_header(record, record.name, narrow(size)) +
                 little(static_cast<std::uint16_t>(field.size())) + std::string(10, '\0') +
                 little(narrow(place)) + record.name + field;
  }
  const std::uint64_t begin = file.size(), bytes = directory.size(), count = records.size();
  file += directory;
  if (wide) {
    const std::uint64_t end = file.size();
    file += "PK\6\6" + little(std::uint64_t{44}) + std::string(12, '\0') + little(count) +
            little(count) + little(bytes) + little(begin);
    file += "PK\6\7" + std::string(4, '\0') + little(end) + little(std::uint32_t{1});
  }
  const auto last = [&](std::uint64_t value) {
    return little(wide ? 0xFFFFFFFFU : static_cast<std::uint32_t>(value));
  };
  const std::string entries = little(static_cast<std::uint16_t>(wide ? 0xFFFF : count));
  return file + "PK\5\6" + std::string(4, '\0') + entries + entries + last(bytes) + last(begin) +
         std::string(2, '\0');
}

inline std::vector<ZipRecord> torch_records(const std::string& pickle,
                                            const std::vector<std::string>& storages) {
  std::vector<ZipRecord> records = {{"weights/data.pkl", pickle}, {"weights/byteorder", "little"}};
  for (std::size_t i = 0; i < storages.size(); ++i)
    records.push_back({"weights/data/" + std::to_string(i), storages[i]});
  records.push_back({"weights/version", "3\n"});
  return records;
}

}  // namespace crabcast::model::test
