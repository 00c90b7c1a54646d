// The clips of `./dev bench loader`: 10 s of video, 320 x 240 pixels at 25 frames/s, as x264 makes
// it without settings (key frames every 250 frames), and 10 s of stereo mp3 at 44.1 kHz.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "tests/data/media_fixture.h"

namespace crabcast::bench {

using testing::Canvas;

inline constexpr int kWidth = 320, kHeight = 240, kFrames = 250;

// A landscape that the camera pans over, with things that move in front of it, and film grain.
class Film {
 public:
  explicit Film(unsigned seed) : random_(seed) {
    for (auto& wave : waves_) wave = {uniform(0.005, 0.25), uniform(-0.25, 0.25), uniform(0, 6.3)};
    for (auto& ball : balls_)
      ball = {uniform(0, kWidth), uniform(0, kHeight), uniform(-3, 3), uniform(-3, 3)};
    pan_ = {uniform(-1.5, 1.5), uniform(-0.5, 0.5)};
  }

  void draw(int frame, Canvas& canvas) {
    for (int y = 0; y < kHeight; ++y)
      for (int x = 0; x < kWidth; ++x) {
        const double u = x + pan_[0] * frame, v = y + pan_[1] * frame;
        double level = 128 + static_cast<double>(random_() % 9) - 4;
        for (std::size_t i = 0; i < waves_.size(); ++i)
          level += 60.0 / static_cast<double>(i + 2) *
                   std::sin(waves_[i][0] * u + waves_[i][1] * v + waves_[i][2]);
        auto* pixel = canvas.at(x, y);
        for (int c = 0; c < 3; ++c)
          pixel[c] = static_cast<std::uint8_t>(std::clamp(level * (0.8 + 0.15 * c), 0.0, 255.0));
      }
    for (std::size_t i = 0; i < balls_.size(); ++i) draw_ball(frame, i, canvas);
  }

 private:
  double uniform(double low, double high) {
    return std::uniform_real_distribution(low, high)(random_);
  }

  void draw_ball(int frame, std::size_t which, Canvas& canvas) const {
    const auto& [x, y, dx, dy] = balls_[which];
    const int radius = 12 + 9 * static_cast<int>(which);
    const int cx = static_cast<int>(x + dx * frame + 100 * kWidth) % kWidth;
    const int cy = static_cast<int>(y + dy * frame + 100 * kHeight) % kHeight;
    for (int py = std::max(0, cy - radius); py < std::min(kHeight, cy + radius); ++py)
      for (int px = std::max(0, cx - radius); px < std::min(kWidth, cx + radius); ++px)
        if ((px - cx) * (px - cx) + (py - cy) * (py - cy) < radius * radius)
          canvas.at(px, py)[which % 3] = static_cast<std::uint8_t>(255 - canvas.at(px, py)[0]);
  }

  std::mt19937 random_;
  std::array<std::array<double, 3>, 5> waves_;
  std::array<std::array<double, 4>, 3> balls_;
  std::array<double, 2> pan_;
};

inline void write_film(const std::filesystem::path& path, unsigned seed) {
  testing::Encoder encoder(path, "libx264");
  auto& codec = encoder.codec();
  codec.width = kWidth;
  codec.height = kHeight;
  codec.pix_fmt = AV_PIX_FMT_YUV420P;
  codec.time_base = {1, 25};
  codec.framerate = {25, 1};
  encoder.set_duration(1);
  encoder.start();
  Film film(seed);
  Canvas canvas(kWidth, kHeight);
  for (int i = 0; i < kFrames; ++i) {
    film.draw(i, canvas);
    AVFrame* frame = testing::to_frame(canvas, AV_PIX_FMT_YUV420P);
    frame->pts = i;
    encoder.add(frame);
    av_frame_free(&frame);
  }
  encoder.finish();
}

inline void write_song(const std::filesystem::path& path, int number) {
  testing::write_sound(path, 10,
                       [&](double t, int channel) {
                         return testing::tone(t, 220 + 40 * number + 3 * channel) *
                                (0.6 + 0.4 * std::sin(7 * t));
                       },
                       {"libmp3lame", AV_SAMPLE_FMT_FLTP, 44'100, 2});
}

// As samples of ks, the recipe of crab-plus. Clips that are in the folder already stay.
inline std::vector<data::Sample> make_clips(const std::filesystem::path& folder, int count) {
  const auto& table = data::datasets();
  const auto ks =
      std::find_if(table.begin(), table.end(), [](const auto& d) { return d.id == "ks"; });
  std::vector<data::Sample> samples;
  for (int i = 0; i < count; ++i) {
    const std::string name = std::to_string(1000 + i).substr(1);  // 000, 001, ...
    data::Sample sample;
    sample.dataset = static_cast<data::DatasetRow>(ks - table.begin());
    sample.video = folder / (name + ".mp4");
    sample.audio = folder / (name + ".mp3");
    if (!std::filesystem::exists(sample.audio)) {
      write_film(sample.video, static_cast<unsigned>(i));
      write_song(sample.audio, i);
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace crabcast::bench
