import type { JsonObject, KubeObject } from '@holdfast/kube-api'
import type { Log } from '@holdfast/runtime'
import { sameJson, statusOf } from '../state/status-document.ts'

/**
 * Where the status of a custom kind is written: with the object, or by itself where its definition has a status subresource. Ours
 * and KubeEdge's have none; a cluster's may. Nobody needs to be asked: what a write makes of an object shows it.
 */
export class StatusRoute {
  readonly #kind: string
  readonly #log: Log
  #at: 'unknown' | 'object' | 'subresource' | 'nowhere' = 'unknown'
  /** Of the object whose status by itself was not found. */
  #missing: string | undefined

  constructor(kind: string, log: Log) {
    this.#kind = kind
    this.#log = log
  }

  get at(): 'unknown' | 'object' | 'subresource' | 'nowhere' { return this.#at }

  /** A write of a status that differs from `before` made `object`. */
  landed(subresource: 'status' | undefined, before: JsonObject, object: KubeObject): void {
    if (!sameJson(before, statusOf(object))) this.#at = subresource === undefined ? 'object' : 'subresource'
    else if (subresource === undefined) this.#at = 'subresource'
    else this.giveUp()
  }

  /** The API says that it has no status of `object` by itself; perhaps because the object is gone. */
  missing({ metadata: { uid } }: KubeObject): void { this.#missing = uid }

  /** `object` is there, as was just read. */
  found({ metadata: { uid } }: KubeObject): void { if (uid !== undefined && uid === this.#missing) this.giveUp() }

  /** The definition of the kind drops what is written: that is not tried for ever. */
  giveUp(): void {
    if (this.#at !== 'nowhere') {
      this.#log.error('the definition of this kind drops its status; install the one in deploy/crds, and restart cloudcore', {
        kind: this.#kind
      })
    }
    this.#at = 'nowhere'
  }
}
