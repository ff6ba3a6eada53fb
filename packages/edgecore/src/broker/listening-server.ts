import type { ListenOptions, Server } from 'node:net'
import { listenFailure } from '@holdfast/runtime'
import type { Log } from '@holdfast/runtime'

/** The life of a server that hands connections to the broker, whatever they speak below MQTT. */
export class ListeningServer {
  readonly #server: Server
  readonly #log: Log
  #faulted: (error: Error) => void = () => {}

  constructor(server: Server, log: Log) {
    this.#server = server
    this.#log = log
  }

  /** Binds, and gives `host:port` as bound. Rejects with `LISTEN_FAILED`; `name` is the listener's. */
  async listen(name: string, options: ListenOptions & { readonly host: string, readonly port: number }): Promise<string> {
    const { host, port } = options
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error): void => reject(listenFailure(name, { host, port }, cause))
      this.#server.once('error', failed)
      this.#server.listen(options, () => {
        this.#server.off('error', failed)
        // Out of descriptors, for instance: connections that stand go on.
        this.#server.on('error', error => {
          if (this.#server.listening) this.#log.warn(`${name}: accepting failed`, { error: error.message })
          else this.#faulted(error)
        })
        resolve()
      })
    })
    const address = this.#server.address()
    const bound = typeof address === 'object' && address !== null ? address : { family: 'IPv4', address: host, port }
    return `${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`
  }

  /** Until `signal` aborts or the server fails; then takes no more, has `end` end what stands, and rejects with the fault. */
  async run(signal: AbortSignal, end: () => Promise<void> | void): Promise<void> {
    let fault: Error | undefined
    await new Promise<void>(resolve => {
      this.#faulted = error => { fault = error; resolve() }
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    const closed = new Promise<void>(resolve => { this.#server.close(() => resolve()) })
    await end()
    await closed
    if (fault !== undefined) throw fault
  }
}
