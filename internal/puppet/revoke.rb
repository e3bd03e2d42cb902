require 'openssl'
require 'socket'
require 'timeout'

# Net::HTTP may make a second connection for a second request, which a server refuses
# to a certificate that is revoked by then.
host, port, name, authority, certificate, key = ARGV
context = OpenSSL::SSL::SSLContext.new
context.set_params(ca_file: authority, verify_mode: OpenSSL::SSL::VERIFY_PEER)
context.cert = OpenSSL::X509::Certificate.new(File.read(certificate))
context.key = OpenSSL::PKey.read(File.read(key))

def answer(socket)
  status = socket.gets.to_s.split[1]
  length = 0
  while (line = socket.gets) && !line.strip.empty?
    length = line.split(':', 2)[1].to_i if line =~ /\Acontent-length:/i
  end
  socket.read([length, 65536].min)
  status
end

begin
  Timeout.timeout(120) do
    socket = OpenSSL::SSL::SSLSocket.new(TCPSocket.new(host, port.to_i), context)
    socket.sync_close = true
    socket.hostname = host
    socket.connect
    socket.post_connection_check(host)
    { 'PUT' => '{"desired_state":"revoked"}', 'DELETE' => '' }.each do |method, body|
      socket.write("#{method} /puppet-ca/v1/certificate_status/#{name} HTTP/1.1\r\nHost: #{host}:#{port}\r\nAccept: application/json\r\n" \
                   "Content-Type: application/json\r\nContent-Length: #{body.bytesize}\r\n\r\n#{body}")
      status = answer(socket)
      abort "#{method}: HTTP status #{status}" unless status =~ /\A2\d\d\z/
    end
    socket.close
  end
rescue StandardError, Timeout::Error => e
  abort e.message
end
