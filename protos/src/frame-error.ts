/** A malformed or unexpected frame. The connection it came on is closed; nothing else is affected. */
export class FrameError extends Error {
  readonly code = 'FRAME_MALFORMED'
}
