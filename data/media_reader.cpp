#include "data/media_reader.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace crabcast::data {
namespace {

// Containers that data sets use. Text formats, playlists and devices are not among them: those can
// name other files, or claim almost any bytes.
constexpr const char* kDemuxers =
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,wav,w64,aiff,au,mp3,flac,aac,ac3,amr,caf";

thread_local std::string last_log;

// FFmpeg's log goes to ours at debug level; the last error also explains the failure it led to.
void on_av_log(void* object, int level, const char* format, va_list arguments) {
  if (level > AV_LOG_WARNING) return;
  std::array<char, 300> line{};
  std::vsnprintf(line.data(), line.size(), format, arguments);
  std::string text(line.data());
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  if (text.empty()) return;
  if (object != nullptr) {
    const auto* type = *static_cast<const AVClass* const*>(object);
    if (type != nullptr && type->item_name != nullptr)
      text = std::string(type->item_name(object)) + ": " + text;
  }
  spdlog::debug("ffmpeg: {}", text);
  if (level <= AV_LOG_ERROR) last_log = std::move(text);
}

void route_av_log() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback(on_av_log); });
  last_log.clear();
}

int refuse_other_files(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EPERM);
}

std::string av_error_text(int code) {
  std::array<char, AV_ERROR_MAX_STRING_SIZE> text{};
  av_strerror(code, text.data(), text.size());
  return text.data();
}

}  // namespace

InputFile::InputFile(std::filesystem::path path, DecodeOptions options, int descriptor,
                     std::uint64_t size)
    : path_(std::move(path)), options_(options), descriptor_(descriptor), size_(size) {}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      options_(other.options_),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<InputFile> InputFile::open(const std::filesystem::path& path, const DecodeOptions& options,
                                  std::uint64_t max_bytes) {
  route_av_log();
  // O_NONBLOCK: opening a FIFO would wait for somebody to write to it.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const int open_error = errno;
  InputFile file(path, options, descriptor, 0);
  if (descriptor < 0) {
    const auto error = error_from_errno(open_error, path.string() + ": open");
    if (error.code == Errc::resource_exhausted) return fail(error);
    return fail(Errc::data_error, error.message);
  }
  struct stat status {};
  if (::fstat(descriptor, &status) != 0)
    return file.failed("open", error_from_errno(errno, "fstat").message);
  if (S_ISDIR(status.st_mode)) return file.failed("open", "is a folder");
  if (!S_ISREG(status.st_mode)) return file.failed("open", "is not a regular file");
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  if (file.size_ == 0) return file.failed("open", "is empty");
  if (file.size_ > max_bytes)
    return file.failed("open", "has " + std::to_string(file.size_) + " bytes; the limit is " +
                                   std::to_string(max_bytes));
  if (file.expired()) return file.failed("open", "");
  return file;
}

bool InputFile::expired() const {
  return Clock::now() >= options_.deadline;
}

tl::unexpected<Error> InputFile::failed(std::string_view stage, std::string_view reason) const {
  const std::string where = path_.string() + ": " + std::string(stage) + ": ";
  if (expired()) return fail(Errc::timeout, where + "the deadline for this sample passed");
  return fail(Errc::data_error, where + std::string(reason));
}

tl::unexpected<Error> InputFile::failed(std::string_view stage, int av_error) const {
  if (av_error == AVERROR(ENOMEM))
    return fail(Errc::resource_exhausted,
                path_.string() + ": " + std::string(stage) + ": out of memory");
  std::string reason = av_error_text(av_error);
  if (!last_log.empty()) reason += " (" + last_log + ")";
  return failed(stage, reason);
}

Result<CodecPtr> open_decoder(const InputFile& file, const AVCodecParameters& parameters,
                              AVRational time_base, bool strict) {
  const AVCodec* codec = avcodec_find_decoder(parameters.codec_id);
  if (codec == nullptr)
    return file.failed("open",
                       "no decoder for " + std::string(avcodec_get_name(parameters.codec_id)));
  CodecPtr context(avcodec_alloc_context3(codec));
  if (context == nullptr) return file.failed("open", AVERROR(ENOMEM));
  if (const int code = avcodec_parameters_to_context(context.get(), &parameters); code < 0)
    return file.failed("open", code);
  context->pkt_timebase = time_base;
  context->thread_count = 1;
  context->max_pixels = file.options().limits.pixels;
  if (strict) context->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
  if (const int code = avcodec_open2(context.get(), codec, nullptr); code < 0)
    return file.failed("open", code);
  return context;
}

Result<std::unique_ptr<MediaReader>> MediaReader::open(const std::filesystem::path& path,
                                                       const DecodeOptions& options) {
  auto input = InputFile::open(path, options, options.limits.file_bytes);
  if (!input) return fail(input.error());
  std::unique_ptr<MediaReader> media(new MediaReader(std::move(input).value()));
  const InputFile& file = media->file_;

  constexpr int kBuffer = 1 << 16;
  auto* buffer = static_cast<std::uint8_t*>(av_malloc(kBuffer));
  if (buffer == nullptr) return file.failed("open", AVERROR(ENOMEM));
  media->io_ = avio_alloc_context(buffer, kBuffer, 0, media.get(), read_bytes, nullptr, seek_bytes);
  media->format_ = avformat_alloc_context();
  if (media->io_ == nullptr || media->format_ == nullptr) {
    if (media->io_ == nullptr) av_free(buffer);
    return file.failed("open", AVERROR(ENOMEM));
  }
  auto& format = *media->format_;
  format.pb = media->io_;
  format.flags |= AVFMT_FLAG_CUSTOM_IO;
  format.interrupt_callback = {interrupted, media.get()};
  format.io_open = refuse_other_files;
  // FFmpeg looks for compressed sound inside plain wav data; thousands of packets would cost more
  // than decoding the clip.
  format.max_probe_packets = 8;
  format.format_whitelist = av_strdup(kDemuxers);
  // On failure FFmpeg frees the context and sets the pointer to null.
  if (const int code = avformat_open_input(&media->format_, "", nullptr, nullptr); code < 0) {
    if (code == AVERROR_INVALIDDATA || code == AVERROR(EINVAL))
      return file.failed("open",
                         "is no video or audio file of a known kind, or its header is "
                         "damaged");
    return file.failed("open", code);
  }
  return media;
}

MediaReader::~MediaReader() {
  avformat_close_input(&format_);
  if (io_ != nullptr) av_freep(&io_->buffer);
  avio_context_free(&io_);
}

bool MediaReader::is(std::string_view demuxer) const {
  return std::string_view(format_->iformat->name).find(demuxer) != std::string_view::npos;
}

// Reads ahead, and decodes a little, to learn what the headers left open.
Status MediaReader::analyse() {
  // The same limits as for decoding.
  const std::string pixels = std::to_string(file_.options().limits.pixels);
  std::vector<AVDictionary*> settings(format_->nb_streams, nullptr);
  for (auto& each : settings) {
    av_dict_set(&each, "max_pixels", pixels.c_str(), 0);
    av_dict_set(&each, "threads", "1", 0);
  }
  const int code = avformat_find_stream_info(format_, settings.data());
  for (auto& each : settings) av_dict_free(&each);
  if (code < 0) return file_.failed("demux", code);
  return {};
}

Result<AVStream*> MediaReader::choose(AVMediaType type) {
  CRABCAST_TRY(analyse());
  const auto is_cover = [&](int i) {
    return (format_->streams[i]->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0;
  };
  stream_ = av_find_best_stream(format_, type, -1, -1, nullptr, 0);
  // FFmpeg may find a cover better than the film.
  const auto tracks = static_cast<int>(format_->nb_streams);
  for (int i = 0; i < tracks && stream_ >= 0 && is_cover(stream_); ++i)
    if (format_->streams[i]->codecpar->codec_type == type && !is_cover(i)) stream_ = i;
  if (stream_ < 0 || is_cover(stream_))
    return file_.failed("demux",
                        type == AVMEDIA_TYPE_VIDEO ? "has no video track" : "has no audio track");
  for (unsigned i = 0; i < format_->nb_streams; ++i)
    if (static_cast<int>(i) != stream_) format_->streams[i]->discard = AVDISCARD_ALL;
  return format_->streams[stream_];
}

Result<bool> MediaReader::read(AVPacket& packet) {
  while (true) {
    av_packet_unref(&packet);
    if (file_.expired()) return file_.failed("demux", "");
    const int code = av_read_frame(format_, &packet);
    if (code == AVERROR_EOF) {
      if (io_->error < 0 && io_->error != AVERROR_EOF) return file_.failed("demux", io_->error);
      return false;
    }
    if (code < 0) return file_.failed("demux", code);
    if (packet.stream_index == stream_) return true;
  }
}

int MediaReader::read_bytes(void* self, std::uint8_t* buffer, int size) {
  const auto& file = static_cast<MediaReader*>(self)->file_;
  if (file.expired()) return AVERROR_EXIT;
  ssize_t got = 0;
  do {
    got = ::read(file.descriptor(), buffer, static_cast<std::size_t>(size));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return AVERROR(errno);
  return got == 0 ? AVERROR_EOF : static_cast<int>(got);
}

std::int64_t MediaReader::seek_bytes(void* self, std::int64_t offset, int whence) {
  const auto& file = static_cast<MediaReader*>(self)->file_;
  if ((whence & AVSEEK_SIZE) != 0) return static_cast<std::int64_t>(file.size());
  const off_t place = ::lseek(file.descriptor(), offset, whence & ~AVSEEK_FORCE);
  return place < 0 ? AVERROR(errno) : place;
}

int MediaReader::interrupted(void* self) {
  return static_cast<MediaReader*>(self)->file_.expired() ? 1 : 0;
}

}  // namespace crabcast::data
