# YARD's own reading of comments: ruby docs.rb FOLDER
require "json"
require "yard"

YARD::Logger.instance.level = 5
Dir.glob(File.join(ARGV[0], "*.rb")).sort.each do |path|
  begin
    YARD::Registry.clear
    YARD.parse([path], [], 5)
    YARD::Registry.all(:method).each do |method|
      # It writes documentation of its own for attributes, aliases, constructors and predicates.
      next if method.is_attribute? || method.is_alias?
      next if method.docstring.all.to_s.gsub(/^:nodoc:.*$/, "").strip.empty?
      next unless method.source.to_s =~ /\bdef\b/
      puts JSON.generate("file" => File.basename(path), "name" => method.name.to_s, "doc" => method.docstring.to_s.scrub)
    end
  rescue StandardError, SystemStackError => error
    warn "#{path}: #{error.class}"
  end
end
