import { once } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { listenFailure } from './listen-failure.ts'

// What every HTTP server here does alike, whatever it answers.

/** Binds the port. Rejects with `LISTEN_FAILED`; `name` is that of the configuration's section. */
export async function listenOn(server: Server, options: { readonly name: string, readonly host: string, readonly port: number }): Promise<void> {
  try {
    server.listen(options.port, options.host)
    await once(server, 'listening')
  } catch (error) {
    throw listenFailure(options.name, options, error)
  }
}

/** What a body that is not taken is answered with. */
export interface BodyRefusals {
  readonly tooLarge: (bytesMax: number) => Error
  readonly cutShort: () => Error
}

/** The whole body, or a refusal. The declared length is checked before a byte is read, and before `100 Continue`. */
export async function readBody(
  request: IncomingMessage, response: ServerResponse, bytesMax: number, { tooLarge, cutShort }: BodyRefusals
): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) throw tooLarge(bytesMax)
  if (request.headers.expect !== undefined) response.writeContinue()
  const chunks: Buffer[] = []
  let length = 0
  return new Promise((resolve, reject) => {
    const settle = (result: Buffer | Error): void => {
      request.off('data', take).off('end', end).off('error', settle).off('close', cut)
      if (result instanceof Error) reject(result)
      else resolve(result)
    }
    const take = (chunk: Buffer): void => {
      length += chunk.length
      if (length > bytesMax) settle(tooLarge(bytesMax))
      else chunks.push(chunk)
    }
    const end = (): void => settle(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length))
    const cut = (): void => settle(cutShort())
    request.on('data', take).on('end', end).on('error', settle).on('close', cut)
  })
}

/** Reads on past a refused body, so that the client sees the refusal; a body that goes on and on is cut. */
export function discardRest(request: IncomingMessage, bytesMax: number): void {
  if (request.complete || request.destroyed) return
  let length = 0
  request.on('error', () => {})
  request.on('data', (chunk: Buffer) => {
    length += chunk.length
    if (length > bytesMax) request.destroy()
  })
}

const refusals: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout'
}

/** For `clientError`: what is no HTTP request is told so, and the connection ends. */
export function refuseUnparsed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (socket.writable && error.code !== 'ECONNRESET') {
    const status = refusals[error.code ?? ''] ?? '400 Bad Request'
    socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`)
  }
  socket.destroySoon()
}
