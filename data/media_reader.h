// One opened media file: what the decode_*.cpp files share. Private to data/.
//
// Not thread-safe; FFmpeg runs in the caller's thread only.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "data/decode.h"
#include "protocol/error.h"

namespace crabcast::data {

struct AvFree {
  void operator()(AVPacket* p) const { av_packet_free(&p); }
  void operator()(AVFrame* p) const { av_frame_free(&p); }
  void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
};
using PacketPtr = std::unique_ptr<AVPacket, AvFree>;
using FramePtr = std::unique_ptr<AVFrame, AvFree>;
using CodecPtr = std::unique_ptr<AVCodecContext, AvFree>;

// A regular file, opened without waiting, with its size checked; and the words for its errors.
class InputFile {
 public:
  static Result<InputFile> open(const std::filesystem::path& path, const DecodeOptions& options,
                                std::uint64_t max_bytes);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] const DecodeOptions& options() const { return options_; }
  [[nodiscard]] bool expired() const;
  // The error for a failed stage: timeout when the deadline passed meanwhile.
  [[nodiscard]] tl::unexpected<Error> failed(std::string_view stage, std::string_view reason) const;
  // The same with FFmpeg's code, and what FFmpeg logged last in this thread.
  [[nodiscard]] tl::unexpected<Error> failed(std::string_view stage, int av_error) const;

 private:
  InputFile(std::filesystem::path path, DecodeOptions options, int descriptor, std::uint64_t size);
  std::filesystem::path path_;
  DecodeOptions options_;
  int descriptor_;
  std::uint64_t size_;
};

// A decoder for one thread, with the pixel limit set.
Result<CodecPtr> open_decoder(const InputFile& file, const AVCodecParameters& parameters,
                              AVRational time_base, bool strict);

// A container opened on an InputFile. FFmpeg reads through our own callbacks: they see the
// deadline, and no file name is left for FFmpeg to interpret.
class MediaReader {
 public:
  static Result<std::unique_ptr<MediaReader>> open(const std::filesystem::path& path,
                                                   const DecodeOptions& options);
  MediaReader(const MediaReader&) = delete;
  MediaReader& operator=(const MediaReader&) = delete;
  ~MediaReader();

  [[nodiscard]] const InputFile& file() const { return file_; }
  [[nodiscard]] AVFormatContext& format() { return *format_; }
  [[nodiscard]] bool is(std::string_view demuxer) const;
  // The track to use; all others are left out from now on. A cover picture is no video.
  Result<AVStream*> choose(AVMediaType type);
  // The next packet of the chosen track; false at the end.
  Result<bool> read(AVPacket& packet);

 private:
  Status analyse();
  explicit MediaReader(InputFile file) : file_(std::move(file)) {}
  static int read_bytes(void* self, std::uint8_t* buffer, int size);
  static std::int64_t seek_bytes(void* self, std::int64_t offset, int whence);
  static int interrupted(void* self);

  InputFile file_;
  AVIOContext* io_ = nullptr;
  AVFormatContext* format_ = nullptr;
  int stream_ = -1;
};

// What an exception says, without the backtrace that LibTorch appends.
inline std::string first_line(const std::exception& error) {
  const std::string_view text = error.what();
  return std::string(text.substr(0, text.find('\n')));
}

// LibTorch throws; nothing may leave this file but a value.
template <class T, class Body>
Result<T> guarded(const std::filesystem::path& path, std::string_view stage, const Body& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(Errc::resource_exhausted,
                path.string() + ": " + std::string(stage) + ": out of memory");
  } catch (const std::exception& error) {
    return fail(Errc::data_error,
                path.string() + ": " + std::string(stage) + ": " + first_line(error));
  }
}

}  // namespace crabcast::data
