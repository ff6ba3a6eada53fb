import { connectAsync } from 'mqtt'
import { describe, expect, it } from 'vitest'
import { Fleet, drained, outboxOf, recordsOf } from '../harness/daemons.ts'

describe('a record\'s journey', () => {
  it('goes from a device over the tunnel into the cloud log, in order, with its device and topic', async () => {
    await using fleet = await Fleet.start()
    const edge = await fleet.join('edge-1')
    await edge.start()
    const device = await connectAsync(edge.endpoints.mqtt!, { clientId: 'meter' })
    for (let i = 0; i < 20; i++) await device.publishAsync('devices/shop/meter/telemetry', JSON.stringify({ i }), { qos: i % 2 === 0 ? 1 : 2 })
    await device.endAsync()
    await drained(edge)
    const lines = await recordsOf(fleet.cloud.endpoints.ops!, 'node=edge-1&lane=telemetry')
    expect(lines.map(line => line.payload)).toEqual(Array.from({ length: 20 }, (_, i) => JSON.stringify({ i })))
    expect(lines.map(line => line.offset)).toEqual(Array.from({ length: 20 }, (_, i) => i))
    expect(lines[0]).toMatchObject({ node: 'edge-1', device: 'shop/meter', topic: 'devices/shop/meter/telemetry' })
  })

  it('waits on the node while there is no cloud, over kill -9 of the daemon, and arrives once', async () => {
    await using fleet = await Fleet.start()
    const edge = await fleet.join('edge-1')
    await fleet.cloud.kill()
    await edge.start()
    const device = await connectAsync(edge.endpoints.mqtt!, { clientId: 'meter', reconnectPeriod: 50 })
    for (let i = 0; i < 10; i++) await device.publishAsync('devices/shop/meter/telemetry', String(i), { qos: 1 })
    await edge.kill()
    await edge.start()
    expect((await outboxOf(edge)).find(lane => lane.lane === 'telemetry')?.records).toBe(10)
    for (let i = 10; i < 20; i++) await device.publishAsync('devices/shop/meter/telemetry', String(i), { qos: 1 })
    await device.endAsync()
    await fleet.cloud.start()
    await drained(edge)
    const lines = await recordsOf(fleet.cloud.endpoints.ops!)
    expect(lines.map(line => line.payload)).toEqual(Array.from({ length: 20 }, (_, i) => String(i)))
    expect(new Set(lines.map(line => line.epoch)).size).toBe(2)
  })

  it('stops within its deadline on SIGTERM and exits with 0 on both sides', async () => {
    await using fleet = await Fleet.start()
    const edge = await fleet.join('edge-1')
    await edge.start()
    const startedMs = performance.now()
    expect(await edge.stop()).toBe(0)
    expect(await fleet.cloud.stop()).toBe(0)
    expect(performance.now() - startedMs).toBeLessThan(5000)
  })
})
