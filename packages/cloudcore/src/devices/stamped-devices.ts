import type { KubeObject } from '@holdfast/kube-api'
import type { Informer, InformerListener, KubeKind } from '../kube/kube-client.ts'

/**
 * Devices as their nodes are shown them: with the versions that their desired values are being given, before these are written
 * into the Device. So a desired value is at the device a request earlier, and goes down once.
 *
 * Whatever becomes of that write, both sides find together (TWN-12): the same value keeps its version until it is written, and
 * after a restart of cloudcore it gets a later one.
 */
export class StampedDevices implements Informer {
  readonly #devices: Informer
  readonly #stamped: (device: KubeObject) => KubeObject

  constructor(devices: Informer, stamped: (device: KubeObject) => KubeObject) {
    this.#devices = devices
    this.#stamped = stamped
  }

  get kind(): KubeKind { return this.#devices.kind }

  get synced(): boolean { return this.#devices.synced }

  get position(): string | undefined { return this.#devices.position }

  get(key: string): KubeObject | undefined { return this.#show(this.#devices.get(key)) }

  *objects(): Iterable<KubeObject> { for (const device of this.#devices.objects()) yield this.#stamped(device) }

  /** What was before is told as the cluster had it. */
  subscribe(listener: InformerListener): () => void {
    return this.#devices.subscribe({
      onChange: (before, after) => { listener.onChange?.(before, this.#show(after)) },
      onPosition: () => { listener.onPosition?.() }
    })
  }

  relist(): Promise<void> { return this.#devices.relist() }

  #show(device: KubeObject | undefined): KubeObject | undefined { return device === undefined ? undefined : this.#stamped(device) }
}
