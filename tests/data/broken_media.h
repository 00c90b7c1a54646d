// Media files that are broken in hundreds of ways, made from a seed.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/media_encode.h"

namespace crabcast::testing {

enum class Medium { video, image, audio };

struct BrokenFile {
  Medium medium;
  std::filesystem::path path;
  bool must_fail;  // false: damage that a decoder may not notice
};

inline const std::vector<std::pair<std::string, Medium>>& media_kinds() {
  static const std::vector<std::pair<std::string, Medium>> all = {
      {"film.mp4", Medium::video},    {"film.avi", Medium::video},  {"picture.jpg", Medium::image},
      {"picture.png", Medium::image}, {"sound.wav", Medium::audio}, {"sound.mp3", Medium::audio}};
  return all;
}

// A good file of each kind, by the names of media_kinds.
class GoodMedia {
 public:
  explicit GoodMedia(unsigned seed) : random_(seed) {
    data::VideoFormat format;
    files_["film.mp4"] = film(format);
    format.container = "avi";
    format.encoders = {"mpeg4"};
    files_["film.avi"] = film(format);
    files_["picture.jpg"] = must(data::encode_jpeg(picture(200, 120, 3)));
    std::vector<std::uint8_t> grey(120 * 80);
    for (auto& pixel : grey) pixel = static_cast<std::uint8_t>(random_());
    files_["picture.png"] = must(data::encode_png(grey, 120, 80));
    std::vector<float> tone(3 * 16'000);
    for (std::size_t i = 0; i < tone.size(); ++i)
      tone[i] = 0.4F * std::sin(0.17F * static_cast<float>(i));
    files_["sound.wav"] = must(data::encode_audio("wav", tone, 16'000));
    files_["sound.mp3"] = must(data::encode_audio("mp3", tone, 16'000));
  }
  [[nodiscard]] const data::Bytes& file(const std::string& name) const { return files_.at(name); }

 private:
  template <class T>
  static T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return std::move(*result);
  }
  data::Canvas picture(int width, int height, int step) {
    data::Canvas canvas(width, height);
    const auto colours = data::colours();
    canvas.fill(colours[2], colours[4]);
    for (std::size_t i = 0; i < 40; ++i)
      canvas.draw({.shape = static_cast<data::Shape>(i % 8),
                   .colour = colours[i % colours.size()],
                   .x = static_cast<double>(random_() % 100) / 100,
                   .y = static_cast<double>(random_() % 100) / 100,
                   .radius = 0.05 + 0.004 * step});
    return canvas;
  }
  data::Bytes film(const data::VideoFormat& format) {
    data::Canvas canvas(0, 0);
    return must(data::encode_video(format, 20, [&](int i) -> const data::Canvas& {
      return canvas = picture(format.width, format.height, i);
    }));
  }

  std::mt19937 random_;
  std::map<std::string, data::Bytes> files_;
};

class BrokenMedia {
 public:
  BrokenMedia(std::filesystem::path folder, unsigned seed)
      : folder_(std::move(folder)), good_(seed), random_(seed) {
    std::filesystem::create_directories(folder_);
    for (const auto& [name, medium] : media_kinds()) {
      cut_off(name, medium);
      fill(name, medium);
      flip(name, medium);
      disguise(name, medium);
      replace(name, medium);
    }
    claim_huge_sizes();
  }
  [[nodiscard]] const std::vector<BrokenFile>& files() const { return files_; }
  [[nodiscard]] const GoodMedia& good() const { return good_; }

 private:
  std::filesystem::path add(const std::string& how, const std::string& name, Medium medium,
                            bool must_fail = true) {
    auto path = folder_ / (std::to_string(files_.size()) + "-" + how + "-" + name);
    files_.push_back({medium, path, must_fail});
    return path;
  }
  static void write(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  [[nodiscard]] std::string bytes_of(const std::string& name) const {
    const auto& bytes = good_.file(name);
    return {bytes.begin(), bytes.end()};
  }

  // Films have their index at the end, and pictures their end mark; sound may end anywhere.
  void cut_off(const std::string& name, Medium medium) {
    for (const double share : {0.02, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97}) {
      const bool noticed =
          name == "film.mp4" || medium == Medium::image || (name == "sound.wav" && share < 0.9);
      const auto whole = bytes_of(name);
      write(add("cut", name, medium, noticed),
            whole.substr(0, static_cast<std::size_t>(static_cast<double>(whole.size()) * share)));
    }
  }

  // Nothing, zeros, noise, text, an error page, a playlist: downloads that went wrong.
  void fill(const std::string& name, Medium medium) {
    write(add("empty", name, medium), "");
    write(add("byte", name, medium), "\x47");
    write(add("zeros", name, medium), std::string(100'000, '\0'));
    std::string noise(50'000, ' ');
    for (auto& byte : noise) byte = static_cast<char>(random_());
    write(add("noise", name, medium), noise);
    write(add("text", name, medium), "404: not found\n");
    write(add("page", name, medium), "<!DOCTYPE html><html><body>Sign in</body></html>");
    write(add("list", name, medium), "#EXTM3U\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n");
    write(add("header", name, medium), bytes_of(name).substr(0, 16) + std::string(5000, '\xAA'));
  }

  // Bits anywhere, bytes anywhere, and a long stretch of noise.
  void flip(const std::string& name, Medium medium) {
    for (int round = 0; round < 12; ++round) {
      auto bytes = bytes_of(name);
      for (auto spots = 1 + random_() % 40; spots > 0; --spots)
        bytes[random_() % bytes.size()] ^= static_cast<char>(1U << random_() % 8);
      // Every chunk of a png has a checksum.
      write(add("flipped", name, medium, name == "picture.png"), bytes);
      for (std::size_t i = bytes.size() / 3; i < bytes.size() * 2 / 3; ++i)
        bytes[i] = static_cast<char>(random_());
      write(add("noisy", name, medium, name == "picture.png"), bytes);
    }
  }

  // The name of one kind, the bytes of another one that cannot stand for it.
  void disguise(const std::string& name, Medium medium) {
    for (const auto& [other, kind] : media_kinds())
      if (kind != medium) write(add("is-" + other, name, medium), bytes_of(other));
  }

  // What a name can stand for that is no file, or none that can be read to its end.
  void replace(const std::string& name, Medium medium) {
    add("missing", name, medium);
    std::filesystem::create_directory(add("folder", name, medium));
    if (::mkfifo(add("fifo", name, medium).c_str(), 0600) != 0)
      throw std::runtime_error("mkfifo failed");
    const auto loop = add("loop", name, medium);
    std::filesystem::create_symlink(loop.filename(), loop);
    std::filesystem::create_symlink("/nowhere/at/all", add("dangling", name, medium));
    std::filesystem::create_symlink("/dev/zero", add("endless", name, medium));
    std::filesystem::create_symlink("/dev/tty", add("terminal", name, medium));
    std::filesystem::create_symlink("/proc/self/mem", add("memory", name, medium));
    // A hole of 9 GiB takes no room.
    const auto huge = add("huge", name, medium);
    write(huge, bytes_of(name).substr(0, 64));
    std::filesystem::resize_file(huge, 9ULL << 30);
  }

  void claim_huge_sizes() {
    auto png = bytes_of("picture.png");
    std::memcpy(png.data() + 16, "\x7F\xFF\xFF\xFF\x7F\xFF\xFF\xFF", 8);
    write(add("vast", "picture.png", Medium::image), png);
    auto jpg = bytes_of("picture.jpg");
    const auto frame = jpg.find("\xFF\xC0");
    if (frame == std::string::npos) throw std::runtime_error("the jpg has no frame header");
    std::memcpy(jpg.data() + frame + 5, "\xFF\xFF\xFF\xFF", 4);
    write(add("vast", "picture.jpg", Medium::image), jpg);
    auto wav = bytes_of("sound.wav");
    std::memcpy(wav.data() + 4, "\x00\x00\x00\x7F", 4);
    write(add("long", "sound.wav", Medium::audio), wav);
    // Durations of 10,000 years in the headers of a film: it has the same frames as before.
    auto mp4 = bytes_of("film.mp4");
    for (const std::string box : {"mvhd", "mdhd"})
      if (const auto at = mp4.find(box); at != std::string::npos)
        std::memcpy(mp4.data() + at + 20, "\x7F\xFF\xFF\xFF", 4);
    write(add("ages", "film.mp4", Medium::video, false), mp4);
  }

  std::filesystem::path folder_;
  GoodMedia good_;
  std::mt19937 random_;
  std::vector<BrokenFile> files_;
};

// A sample that has nothing but this file.
inline data::Sample sample_of(Medium medium, const std::filesystem::path& path) {
  data::Sample sample;
  const std::string_view set = medium == Medium::image ? "arig" : "ks";
  const auto& table = data::datasets();
  const auto row =
      std::find_if(table.begin(), table.end(), [&](const auto& d) { return d.id == set; });
  sample.dataset = static_cast<data::DatasetRow>(row - table.begin());
  (medium == Medium::video   ? sample.video
   : medium == Medium::image ? sample.image
                             : sample.audio) = path;
  return sample;
}

// What is wrong with an error as a person has to read it; empty: it is clear.
inline std::string unclear(const Error& error, const std::filesystem::path& path) {
  if (error.code != Errc::data_error && error.code != Errc::timeout)
    return "its code is " + std::string(to_string(error.code)) + ": " + error.message;
  const std::string start = path.string() + ": ";
  if (!error.message.starts_with(start)) return "it does not start with the file: " + error.message;
  const auto text = error.message.substr(start.size());
  const auto stage = text.substr(0, text.find(": "));
  if (stage != "open" && stage != "demux" && stage != "decode" && stage != "audio")
    return "it has no stage: " + error.message;
  const auto reason = text.substr(std::min(text.size(), stage.size() + 2));
  if (reason.size() < 8 || reason.size() > 300 || reason.find('\n') != std::string::npos)
    return "its reason is no short line: " + error.message;
  return "";
}

}  // namespace crabcast::testing
