import { crc32 } from 'node:zlib'
import type { Committer, Store } from '@holdfast/store'
import { tables } from '@holdfast/store'

/** What the edge remembers of the other side. Empty strings: nothing yet. */
export interface Peer {
  readonly clusterUid: string
  readonly logId: string
}

const key = Buffer.from([tables.meta, 0x01])
const format = 1

/** Keeps the Peer in the edge's database (docs/storage.md, table 0x01). */
export class PeerMemory {
  #peer: Peer
  readonly #committer: Committer

  private constructor(peer: Peer, committer: Committer) {
    this.#peer = peer
    this.#committer = committer
  }

  static async open(store: Store, committer: Committer): Promise<PeerMemory> {
    const value = await store.get(key)
    let peer: Peer = { clusterUid: '', logId: '' }
    if (value !== undefined && value.length > 5 && value[0] === format && value.readUInt32BE(1) === crc32(value.subarray(5))) {
      const [clusterUid, logId] = value.toString('utf8', 5).split('\n')
      if (clusterUid !== undefined && logId !== undefined) peer = { clusterUid, logId }
    }
    return new PeerMemory(peer, committer)
  }

  get peer(): Peer { return this.#peer }

  /** Resolves when it is durable. */
  async remember(peer: Peer): Promise<void> {
    const commit = this.#committer.gather({ bytes: 128 })
    const text = Buffer.from(`${peer.clusterUid}\n${peer.logId}`)
    const head = Buffer.alloc(5)
    head[0] = format
    head.writeUInt32BE(crc32(text), 1)
    commit.put(key, Buffer.concat([head, text]))
    await new Promise<void>((resolve, reject) => {
      commit.onDurable(error => {
        if (error === undefined) resolve()
        else reject(error)
      })
    })
    this.#peer = peer
  }
}
